"""The partitions of the events on PostgreSQL: one a week, made ahead of time, dropped as a whole.

A partition is named after its end, `events_until_20261214`, a Monday at midnight UTC. The first one, of what was there before there were
partitions, has no beginning. What no partition is there for, because nobody kept house for weeks or a clock was wrong, lies in
`events_other`, where it is deleted row by row; a week of which something lies there gets no partition any more.

Whoever writes an event has locked its job before, so what makes a partition locks the jobs first, which the events' foreign key
asks for. It waits for less time than PostgreSQL lets pass before it looks for deadlocks (`deadlock_timeout`, a second): it is never
another that has to give way.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.db import database_now

WEEK = timedelta(days=7)
AHEAD = 4 * WEEK
OTHER = "events_other"
_PREFIX = "events_until_"
_PATIENCE = "250ms"
_TIME = "%Y%m%d"
_PARTS = text(
    "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'events'::regclass"
)


def is_partition(table: str) -> bool:
    """Whether a table of this name is part of `events`: migrations and the code's own tables know nothing of it."""
    return table == OTHER or table.startswith(_PREFIX)


def ends(session: Session) -> list[datetime]:
    """Where the partitions end, the oldest first."""
    names = session.scalars(_PARTS)
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
        with sessions.begin() as session:
            _be_patient(session)
            session.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))
            session.execute(text(f"LOCK TABLE {OTHER} IN ACCESS EXCLUSIVE MODE"))
            start = _next(session, ahead)  # another may have been faster
            if start is not None:
                add_partition(session, start, start + WEEK)
                added += 1


def add_partition(session: Session, start: datetime, end: datetime) -> None:
    """Make the partition from `start` on, of which nothing lies in `events_other`. It belongs to whom the events belong."""
    name = _name(end)
    owner = session.scalars(text("SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = 'events'::regclass")).one()
    session.execute(text(f"CREATE TABLE {name} (LIKE events INCLUDING CONSTRAINTS INCLUDING INDEXES)"))
    session.execute(text(f"ALTER TABLE {name} OWNER TO {owner}"))
    session.execute(text(f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"))


def drop_partitions(sessions: sessionmaker[Session], *, kept: timedelta) -> int:
    """Drop the partitions that ended longer than `kept` ago, each in a transaction of its own. Returns how many.

    Raises:
        sqlalchemy.exc.OperationalError: somebody reads events all the time. What is dropped is dropped.
    """
    with sessions() as session:
        old = [end for end in ends(session) if end <= database_now(session) - kept]
    for end in old:
        with sessions.begin() as session:
            _be_patient(session)
            session.execute(text(f"DROP TABLE IF EXISTS {_name(end)}"))
    return len(old)


def without_beginning(session: Session) -> bool:
    """Whether the first partition is there yet: what is in it is older than any week."""
    return any("MINVALUE" in bound for _, bound in session.execute(_PARTS))


def may_be_made(session: Session) -> bool:
    """Whether the user of this session may make and drop partitions: those to whom the events belong may."""
    owned = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'events'::regclass")
    return bool(session.scalar(owned))


def _next(session: Session, ahead: timedelta) -> datetime | None:
    """Where the next partition begins, if it is time to make it."""
    now = database_now(session)
    start = max([_monday(now), *ends(session)])
    query = text(f"SELECT max(created_at) FROM {OTHER} WHERE created_at >= :start AND created_at < :end")  # noqa: S608
    stray = session.scalar(query, {"start": start, "end": now + ahead + WEEK})
    if stray is not None:
        start = _monday(stray) + WEEK
    return start if start < now + ahead else None


def _monday(moment: datetime) -> datetime:
    """When its week began."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def _name(end: datetime) -> str:
    return f"{_PREFIX}{end:{_TIME}}"


def _be_patient(session: Session) -> None:
    session.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE}'"))
