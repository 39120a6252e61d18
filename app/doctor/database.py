"""Is the database there, is it recent enough, and is its schema the one that this code was written against?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db import database_now, make_engine
from app.doctor import clock
from app.doctor.finding import Finding, failed, ok, warning
from app.jobs import partitions
from app.migrate import known_revisions, revision_of
from app.settings import Settings

CHECK = "database"
OLDEST = {"postgresql": (14,), "sqlite": (3, 35)}
"""With an older SQLite, `ALTER TABLE … DROP COLUMN` of a migration fails; an older PostgreSQL gets no fixes any more."""
_CONNECT_SECONDS = "5"


def check_database(settings: Settings) -> Iterator[Finding]:
    url = make_url(settings.database_url)
    if url.get_backend_name() == "postgresql":
        url = url.update_query_dict({"connect_timeout": _CONNECT_SECONDS})
    engine = make_engine(url.render_as_string(hide_password=False))
    try:
        with engine.connect() as connection:
            yield _version(engine)
            schema = _schema(connection)
            yield schema
        with Session(engine) as session:
            yield clock.compare("the database", database_now(session) - datetime.now(UTC))
            if schema.status == "ok" and engine.dialect.name == "postgresql":
                yield _partitions(session)
    except DBAPIError as error:
        yield failed(
            CHECK,
            f"cannot be used: {str(error.orig).strip()}",
            "Is the server up, does a firewall let this machine through, and are user, password and name in LUSTRAL_DATABASE_URL right?",
        )
    finally:
        engine.dispose()


def _partitions(session: Session) -> Finding:
    """Of the events: a relay makes them weeks ahead, as a user to whom the table belongs."""
    if not partitions.may_be_made(session):
        detail = "the user of LUSTRAL_DATABASE_URL may not make partitions of the table events: it belongs to another"
        return failed(CHECK, detail, "Migrate and run the service as one user, or make it a member of the owner's role.")
    ends = partitions.ends(session)
    if not ends or ends[-1] <= database_now(session):
        detail = f"no partition for the events of today: they go to {partitions.OTHER}"
        return warning(CHECK, detail, "Start a relay, and look for chore.put_off in its log.")
    return ok(CHECK, f"partitions for events until {ends[-1]:%Y-%m-%d}")


def _version(engine: Engine) -> Finding:
    found = engine.dialect.server_version_info or ()
    name, oldest = engine.dialect.name, OLDEST[engine.dialect.name]
    text = f"{name} {'.'.join(map(str, found))}"
    if found[: len(oldest)] < oldest:
        return failed(CHECK, f"{text} is too old", f"Upgrade it to {'.'.join(map(str, oldest))} or later.")
    return ok(CHECK, text)


def _schema(connection: Connection) -> Finding:
    found, known = revision_of(connection), known_revisions()
    if found == known[-1]:
        return ok(CHECK, f"schema {found}, the latest")
    if found is None:
        return failed(CHECK, "has no schema yet", "Run: lustral operate migrate")
    if found in known:
        detail = f"schema {found} is behind {known[-1]}, which this version needs"
        return failed(CHECK, detail, "Make a backup, then: lustral operate migrate")
    detail = f"schema {found} is of a later version of Lustral than this one"
    return failed(CHECK, detail, "Run the version that migrated it, or a later one.")
