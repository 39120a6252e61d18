"""Runs the migrations on the connection handed over by `app.migrate`, or on `LUSTRAL_DATABASE_URL` under the alembic command."""

from __future__ import annotations

import os
from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection

from app.db import UtcTimestamp, make_engine
from app.jobs.partitions import is_partition
from app.tables import metadata


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write plain SQLAlchemy types into new revisions: they must stay true when our own classes change."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcTimestamp) else False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        render_item=render_item,
        include_name=lambda name, kind, _parents: kind != "table" or not is_partition(name or ""),
        # SQLite cannot alter columns: Alembic then copies the table.
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    with make_engine(os.environ["LUSTRAL_DATABASE_URL"]).begin() as own:
        run(own)
