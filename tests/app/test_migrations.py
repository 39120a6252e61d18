"""Migrations lead to the very schema that the code is written against, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from app.db import make_engine
from app.migrate import downgrade, upgrade
from app.tables import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lustral.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


class TestMigrations:
    def test_lead_to_the_schema_of_the_code(self, database_url: str) -> None:
        upgrade(database_url)
        engine = make_engine(database_url)
        with engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
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
