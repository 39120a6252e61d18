"""Old events are forgotten: on PostgreSQL a partition at a time, elsewhere a batch at a time."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import column, delete, select, table
from sqlalchemy.orm import Session, sessionmaker

from app.db import UtcTimestamp, database_now
from app.jobs import partitions
from app.jobs.tables import EventRow

BATCH = 10_000


def keep_events(sessions: sessionmaker[Session], *, kept: timedelta | None, batch: int = BATCH) -> None:
    """Forget the events that are older than `kept` (None: none), and make room for those to come.

    On PostgreSQL an event is forgotten with the last one of its week; those that are in no week, one by one.
    """
    if sessions.kw["bind"].dialect.name != "postgresql":
        if kept is not None:
            _delete(sessions, EventRow.__tablename__, kept, batch)
        return
    try:
        partitions.add_partitions(sessions)
    finally:
        if kept is not None:
            partitions.drop_partitions(sessions, kept=kept)
            with sessions() as session:
                without_week = [partitions.OTHER, *([EventRow.__tablename__] if partitions.without_beginning(session) else [])]
            for name in without_week:
                _delete(sessions, name, kept, batch)


def _delete(sessions: sessionmaker[Session], name: str, kept: timedelta, batch: int) -> None:
    """Delete old events of a table, or of a part of it, each batch in a transaction of its own.

    Events are numbered as time goes on, so the oldest are found by their numbers, and only one batch is looked at where there is
    nothing to do. Two processes at once wait for one another's batch and then find it gone.
    """
    events = table(name, column("id"), column("created_at", UtcTimestamp))
    deleted = batch
    while deleted == batch:
        with sessions.begin() as session:
            oldest = select(events.c.id, events.c.created_at).order_by(events.c.id).limit(batch).subquery()
            old = select(oldest.c.id).where(oldest.c.created_at < database_now(session) - kept)
            deleted = session.execute(delete(events).where(events.c.id.in_(old))).rowcount  # type: ignore[attr-defined]
