# ruff: noqa: ARG002  (the signatures of a TypeDecorator)
"""The database: one declarative base, one engine per process, SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Engine, Integer, MetaData, create_engine, event, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeDecorator


class UtcTimestamp(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases (SQLite forgets the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a timestamp without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


T = TypeVar("T")

# SQLite numbers rows by itself only where the key is declared INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it from the class)
        datetime: UtcTimestamp,
        dict[str, Any]: JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql"),
        list[Any]: JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql"),
    }


# A server that is gone without a word is found out within half a minute: while nothing is asked, by probes; after that, by what it
# did not acknowledge.
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}


def make_engine(url: str, *, connect_seconds: int = 5, statement_seconds: float | None = None, idle_seconds: float | None = None) -> Engine:
    """An engine for `sqlite:///…` (WAL, foreign keys on, writers wait 30 s for one another) or `postgresql+psycopg://…`.

    The limits are PostgreSQL's. connect_seconds: to connect (at least 2). statement_seconds: for one statement; None, as a migration
    needs it: no limit. idle_seconds: in which a transaction asks for nothing; None: no limit.
    """
    if not url.startswith("sqlite"):
        limits = {"statement_timeout": statement_seconds, "idle_in_transaction_session_timeout": idle_seconds}
        given = make_url(url).query.get("options", "")
        options = [given] if isinstance(given, str) else list(given)
        options += [f"-c {name}={round(seconds * 1000)}" for name, seconds in limits.items() if seconds is not None]
        connect = {**_KEEPALIVE, "connect_timeout": connect_seconds, "options": " ".join(options)}
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20, connect_args=connect)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # pysqlite opens transactions too late to make read-then-write safe; we open them ourselves below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # IMMEDIATE: a transaction that reads and then writes must not fail half-way because another wrote in between.
        # A reader takes no such lock: it sees one snapshot and keeps nobody waiting.
        connection.exec_driver_sql("BEGIN DEFERRED" if connection.get_execution_options().get("read_only") else "BEGIN IMMEDIATE")

    return engine


def make_session_factory(engine: Engine, *, read_only: bool = False) -> sessionmaker[Session]:
    """`read_only` sessions never wait for writers; on SQLite they must not write."""
    return sessionmaker(engine.execution_options(read_only=True) if read_only else engine, expire_on_commit=False)


def database_now(session: Session) -> datetime:
    """The database's clock, the only one that leases are measured by."""
    if session.get_bind().dialect.name == "sqlite":
        text: str = session.execute(select(func.strftime("%Y-%m-%d %H:%M:%f", "now"))).scalar_one()
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def chunked(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces short enough for an `IN (…)`: databases limit the variables of a statement."""
    for start in range(0, len(values), 500):
        yield values[start : start + 500]
