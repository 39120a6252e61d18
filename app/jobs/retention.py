"""Old events are forgotten, a batch at a time."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from app.db import database_now
from app.jobs.tables import EventRow

BATCH = 10_000


def forget_old_events(sessions: sessionmaker[Session], *, kept: timedelta, batch: int = BATCH) -> int:
    """Delete the events that are older than `kept`, each `batch` in a transaction of its own. Returns how many.

    Events are numbered as time goes on, so the oldest are found by their numbers, and only one batch is looked at where there is
    nothing to do. Two processes at once wait for one another's batch and then find it gone.
    """
    forgotten = 0
    while True:
        with sessions.begin() as session:
            oldest = select(EventRow.id, EventRow.created_at).order_by(EventRow.id).limit(batch).subquery()
            old = select(oldest.c.id).where(oldest.c.created_at < database_now(session) - kept)
            deleted: int = session.execute(
                delete(EventRow).where(EventRow.id.in_(old)).execution_options(synchronize_session=False)
            ).rowcount  # type: ignore[attr-defined]
        forgotten += deleted
        if deleted < batch:
            return forgotten
