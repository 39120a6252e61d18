"""Bring a database's schema up to date."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from app.db import make_engine

# Any number will do, as long as all processes use the same.
_LOCK = 4_271_902_015


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply the migrations that are missing, all or none. Several processes may call this at once: one does the work."""
    _run(database_url, lambda config: command.upgrade(config, revision))


def downgrade(database_url: str, revision: str) -> None:
    """Take migrations back, down to `revision` (`base`: all of them). Data in what they added is lost."""
    _run(database_url, lambda config: command.downgrade(config, revision))


def revision_of(connection: Connection) -> str | None:
    """The migration that the database is at; null: none was ever applied."""
    return MigrationContext.configure(connection).get_current_revision()


def is_migrated(database_url: str) -> bool:
    """Has the database the schema of this code, or a later one, which has to suit this code too? False where it cannot be asked."""
    engine = make_engine(database_url)
    try:
        with engine.connect() as connection:
            return revision_of(connection) not in (None, *known_revisions()[:-1])
    except OperationalError:
        return False
    finally:
        engine.dispose()


def known_revisions() -> list[str]:
    """All migrations that this code knows, the first one first."""
    found = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in found][::-1]


def _run(database_url: str, work: Callable[[Config], None]) -> None:
    engine = make_engine(database_url)
    try:
        with engine.begin() as connection:
            _lock(connection)
            config = _config()
            config.attributes["connection"] = connection
            work(config)
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    return config


def _lock(connection: Connection) -> None:
    """Until the transaction ends. On SQLite the transaction itself keeps others out."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
