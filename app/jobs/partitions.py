"""The partitions of the events on PostgreSQL: one a week, made ahead of time, dropped as a whole.

A partition is named after its end, `events_until_20261214`, a Monday at midnight UTC, and begins where the one before ends; the first one
has no beginning. What no partition is there for, because nobody kept house for weeks or a clock was wrong, goes to `events_other`
and from there to its partition once that is made.

Whatever adds or drops a partition locks `jobs` for a moment, because of the events' foreign key. It waits for that lock for less time
than PostgreSQL lets pass before it looks for deadlocks (`deadlock_timeout`, a second): so it is never another that has to give way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.db import database_now

WEEK = timedelta(days=7)
AHEAD = 4 * WEEK
OTHER = "events_other"
_PREFIX = "events_until_"
_PATIENCE = "500ms"
_TIME = "%Y%m%d"


def is_partition(table: str) -> bool:
    """Whether a table of this name is part of `events`: migrations and the code's own tables know nothing of it."""
    return table == OTHER or table.startswith(_PREFIX)


def ends(session: Session) -> list[datetime]:
    """Where the partitions end, the oldest first."""
    names = session.scalars(text("SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'events'::regclass"))
    return sorted(datetime.strptime(name, f"{_PREFIX}{_TIME}").replace(tzinfo=UTC) for name in names if name != OTHER)


def add_partitions(sessions: sessionmaker[Session], *, ahead: timedelta = AHEAD) -> int:
    """Make the partitions that are missing up to `ahead` of now, each in a transaction of its own. Returns how many.

    Raises:
        sqlalchemy.exc.OperationalError: somebody works on the jobs all the time. What is made is made.
    """
    added = 0
    while True:
        with sessions() as session:
            if _next(session, ahead) is None:
                return added
        with _locked(sessions, "SHARE ROW EXCLUSIVE", OTHER) as session:
            start = _next(session, ahead)  # another may have been faster
            if start is not None:
                add_partition(session, start, start + WEEK)
                added += 1


def add_partition(session: Session, start: datetime, end: datetime) -> None:
    """Make a partition, and put what happened between `start` and `end` and is in no other into it."""
    name, period = _name(end), {"start": start, "end": end}
    session.execute(text(f"CREATE TABLE {name} (LIKE events INCLUDING CONSTRAINTS INCLUDING INDEXES)"))
    moved = f"DELETE FROM {OTHER} WHERE created_at >= :start AND created_at < :end RETURNING *"  # noqa: S608
    session.execute(text(f"WITH moved AS ({moved}) INSERT INTO {name} SELECT * FROM moved"), period)  # noqa: S608
    session.execute(text(f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"))


def drop_partitions(sessions: sessionmaker[Session], *, kept: timedelta) -> int:
    """Drop the partitions that ended longer than `kept` ago, each in a transaction of its own. Returns how many.

    Of `events_other`, what is older is deleted.

    Raises:
        sqlalchemy.exc.OperationalError: somebody works on the jobs all the time. What is dropped is dropped.
    """
    with sessions.begin() as session:
        oldest = database_now(session) - kept
        old = [end for end in ends(session) if end <= oldest]
        session.execute(text(f"DELETE FROM {OTHER} WHERE created_at < :oldest"), {"oldest": oldest})  # noqa: S608
    for end in old:
        with _locked(sessions, "ACCESS EXCLUSIVE", "events") as session:
            session.execute(text(f"DROP TABLE IF EXISTS {_name(end)}"))
    return len(old)


def _next(session: Session, ahead: timedelta) -> datetime | None:
    """Where the next partition begins, if it is time to make it."""
    now, known = database_now(session), ends(session)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    start = known[-1] if known else today - timedelta(days=today.weekday())
    return start if start < now + ahead else None


def _name(end: datetime) -> str:
    return f"{_PREFIX}{end:{_TIME}}"


@contextmanager
def _locked(sessions: sessionmaker[Session], jobs: Literal["SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"], events: str) -> Iterator[Session]:
    """A transaction that has the locks it will need: on the jobs first, as whoever writes an event does it."""
    with sessions.begin() as session:
        session.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE}'"))
        session.execute(text(f"LOCK TABLE jobs IN {jobs} MODE"))
        session.execute(text(f"LOCK TABLE {events} IN ACCESS EXCLUSIVE MODE"))
        yield session
