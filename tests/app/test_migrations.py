"""Migrations lead to the very schema that the code is written against, and back, and what was stored before is there afterwards."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Boolean, Column, DateTime, Integer, LargeBinary, MetaData, Table, inspect
from sqlalchemy.types import JSON

from app.db import make_engine
from app.jobs.partitions import is_partition
from app.migrate import downgrade, upgrade
from app.tables import metadata

REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory("migrations", version_locations=["migrations/versions"]).walk_revisions()))
]
"""All revisions, oldest first."""

Rows = dict[str, dict[str, Any]]
"""The one row of each table, by the table's name."""


class TestMigrations:
    def test_lead_to_the_schema_of_the_code(self, database_url: str) -> None:
        upgrade(database_url)
        engine = make_engine(database_url)
        with engine.connect() as connection:
            options = {"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or not is_partition(name)}
            differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        engine.dispose()
        assert differences == []

    def test_are_applied_once(self, database_url: str) -> None:
        upgrade(database_url)
        upgrade(database_url)

    def test_lead_back(self, database_url: str) -> None:
        upgrade(database_url)
        downgrade(database_url, "base")
        engine = make_engine(database_url)
        assert inspect(engine).get_table_names() == ["alembic_version"]
        engine.dispose()
        upgrade(database_url)

    def test_keep_what_is_stored_on_the_way_up_and_down_and_up_again(self, database_url: str) -> None:
        """Every table has a row, put there at the first revision that has the table."""
        rows: Rows = {}
        for revision in REVISIONS:
            upgrade(database_url, revision)
            assert_kept(rows, database_url, f"after the upgrade to {revision}")
            rows = fill(database_url)
        assert rows.keys() == metadata.tables.keys()
        for revision in reversed(REVISIONS[:-1]):
            downgrade(database_url, revision)
            assert_kept(rows, database_url, f"after the downgrade to {revision}")
        kept = read(database_url)
        upgrade(database_url)
        assert_kept(kept, database_url, "on the way up again")


def fill(url: str) -> Rows:
    """Put a row into every table that has none; all rows."""
    engine = make_engine(url)
    with engine.begin() as connection:
        found = MetaData()
        found.reflect(connection, only=lambda name, _: not is_partition(name))
        rows: Rows = {}
        for table in found.sorted_tables:
            if table.name == "alembic_version":
                continue
            row = connection.execute(table.select()).mappings().one_or_none()
            if row is None:
                connection.execute(table.insert().values({column.name: value_for(table, column, rows) for column in table.columns}))
                row = connection.execute(table.select()).mappings().one()
            rows[table.name] = dict(row)
    engine.dispose()
    return rows


def read(url: str) -> Rows:
    engine = make_engine(url)
    with engine.connect() as connection:
        found = MetaData()
        found.reflect(connection, only=lambda name, _: not is_partition(name))
        rows = {name: connection.execute(table.select()).mappings().one_or_none() for name, table in found.tables.items()}
    engine.dispose()
    return {name: dict(row) for name, row in rows.items() if row is not None and name != "alembic_version"}


def value_for(table: Table, column: Column[Any], rows: Rows) -> Any:
    """Something that the column takes and that is not there by default; what a foreign key refers to."""
    for key in column.foreign_keys:
        return rows[key.column.table.name][key.column.name]
    if column.name == "status":
        return "succeeded"  # every table that has one knows it
    kind = column.type
    if isinstance(kind, Boolean):
        return True
    if isinstance(kind, Integer):
        return 7
    if isinstance(kind, DateTime):
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    if isinstance(kind, LargeBinary):
        return b"bytes"
    if isinstance(kind, JSON):
        return {"of": column.name}
    return f"{table.name} {column.name}"


def assert_kept(before: Rows, url: str, when: str) -> None:
    """Each row that was there is there, in the columns that both schemas have."""
    after = read(url)
    for name in before.keys() & after.keys():
        both = before[name].keys() & after[name].keys()
        assert {column: after[name][column] for column in both} == {column: before[name][column] for column in both}, f"{name} {when}"
