"""What starts beside a migration waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli.failures import Failure
from app.cli.operate import cli
from app.db import make_engine
from app.migrate import is_migrated, known_revisions, upgrade
from app.settings import load_settings


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'lustral.db'}"


def test_a_database_is_migrated_at_this_codes_schema_or_a_later_one(url: str) -> None:
    assert not is_migrated(url)
    upgrade(url, known_revisions()[-2])
    assert not is_migrated(url)
    upgrade(url)
    assert is_migrated(url)
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert is_migrated(url)  # the old version goes on while the new one is rolled out


def test_one_that_cannot_be_asked_is_not(tmp_path: Path) -> None:
    assert not is_migrated(f"sqlite:///{tmp_path / 'no folder' / 'lustral.db'}")


def test_the_command_waits_no_longer_than_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DATABASE_URL": url, "BROKER_URL": "memory://", "STORAGE_URL": "file:///nowhere", "SECRET_KEY": "s" * 32}.items():
        monkeypatch.setenv(f"LUSTRAL_{name}", value)
    load_settings.cache_clear()
    try:
        waited = CliRunner().invoke(cli, ["wait-for-migration", "--timeout", "0"])
        assert isinstance(waited.exception, Failure)
        upgrade(url)
        assert CliRunner().invoke(cli, ["wait-for-migration", "--timeout", "0"]).exit_code == 0
    finally:
        load_settings.cache_clear()
