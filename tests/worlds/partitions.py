"""The events of a PostgreSQL as they lie after the service has run for long."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.partitions import OTHER, WEEK, add_partition, ends


def dissolve(session: Session, end: datetime) -> None:
    """As if the partition that ends then had never been made: what is in it is in none."""
    name = f"events_until_{end:%Y%m%d}"
    session.execute(text(f"ALTER TABLE events DETACH PARTITION {name}"))
    session.execute(text(f"INSERT INTO {OTHER} SELECT * FROM {name}"))  # noqa: S608
    session.execute(text(f"DROP TABLE {name}"))


def as_after_years(sessions: sessionmaker[Session], *, weeks: int = 20) -> None:
    """Cut the first partition, which has no beginning, into so many weeks."""
    with sessions.begin() as session:
        end = ends(session)[0]
        first = f"events_until_{end:%Y%m%d}"
        session.execute(text(f"ALTER TABLE events DETACH PARTITION {first}"))
        session.execute(text(f"ALTER TABLE {first} RENAME TO {first}_whole"))
        for week in reversed(range(weeks)):
            add_partition(session, end - (week + 1) * WEEK, end - week * WEEK)
        session.execute(text(f"INSERT INTO events SELECT * FROM {first}_whole"))  # noqa: S608
        session.execute(text(f"DROP TABLE {first}_whole"))
