"""Every test of state runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.migrate import upgrade
from tests.servers.postgres import Postgres
from tests.worlds.jobs import World, make_world


@pytest.fixture(scope="session")
def shared_postgres_url(postgres: Postgres) -> Iterator[str]:
    """One database that each test finds empty: making a new one takes longer than most tests."""
    with postgres.database() as url:
        upgrade(url)
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = f"sqlite:///{tmp_path / 'lustral.db'}" if request.param == "sqlite" else request.getfixturevalue("shared_postgres_url")
    with make_world(url) as made:
        yield made
