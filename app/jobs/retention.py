"""Old events are forgotten: on PostgreSQL a partition at a time, elsewhere a batch at a time."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from app.db import database_now
from app.jobs import partitions
from app.jobs.tables import EventRow

BATCH = 10_000


def keep_events(sessions: sessionmaker[Session], *, kept: timedelta | None, batch: int = BATCH) -> None:
    """Forget the events that are older than `kept` (None: none), and make room for those to come.

    On PostgreSQL an event is forgotten with the last one of its week.
    """
    if sessions.kw["bind"].dialect.name == "postgresql":
        if kept is not None:
            partitions.drop_partitions(sessions, kept=kept)
        partitions.add_partitions(sessions)
    elif kept is not None:
        _delete_batches(sessions, kept, batch)


def _delete_batches(sessions: sessionmaker[Session], kept: timedelta, batch: int) -> None:
    """Each batch in a transaction of its own.

    Events are numbered as time goes on, so the oldest are found by their numbers, and only one batch is looked at where there is
    nothing to do. Two processes at once wait for one another's batch and then find it gone.
    """
    deleted = batch
    while deleted == batch:
        with sessions.begin() as session:
            oldest = select(EventRow.id, EventRow.created_at).order_by(EventRow.id).limit(batch).subquery()
            old = select(oldest.c.id).where(oldest.c.created_at < database_now(session) - kept)
            deleted = session.execute(delete(EventRow).where(EventRow.id.in_(old)).execution_options(synchronize_session=False)).rowcount  # type: ignore[attr-defined]
