"""`lustral operate`: what it prints, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.fernet import Fernet
from typer.core import TyperGroup
from typer.testing import CliRunner

from app.auth.keys import is_well_formed
from app.cli import cli
from app.settings import load_settings


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Those of a server that has a database and a folder of objects."""
    monkeypatch.setenv("LUSTRAL_DATABASE_URL", f"sqlite:///{tmp_path / 'lustral.db'}")
    monkeypatch.setenv("LUSTRAL_STORAGE_URL", f"file://{tmp_path / 'objects'}")
    monkeypatch.setenv("LUSTRAL_BROKER_URL", "memory://")
    monkeypatch.setenv("LUSTRAL_SECRET_KEY", "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("LUSTRAL_CREDENTIAL_KEYS", Fernet.generate_key().decode())
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def operate(*arguments: str) -> Any:
    """What `lustral operate … --json` prints."""
    ran = CliRunner().invoke(cli, ["operate", *arguments, "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def test_what_it_prints_can_be_read_by_machines(tmp_path: Path) -> None:
    assert operate("migrate") == {"migrated": True}
    assert operate("wait-for-migration") == {"migrated": True}
    created = operate("create-key", "--tenant", "acme")
    assert is_well_formed(created["key"])
    assert created["scopes"] == ["read", "write", "admin"]
    assert operate("limits", "acme", "--stored-bytes", "1000")["stored_bytes"] == 1000
    assert operate("reseal-credentials") == {"credentials": 0}
    copy = str(tmp_path / "copy")
    assert operate("export-objects", copy) == {"objects": 0, "folder": copy}
    (tmp_path / "copy").mkdir(exist_ok=True)
    assert operate("import-objects", copy) == {"objects": 0}
    assert operate("check-objects") == {"missing": []}


def commands(group: TyperGroup, *path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, *path, name)
        else:
            yield " ".join((*path, name)), command


def test_every_command_that_answers_takes_json() -> None:
    group = typer.main.get_command(cli)
    assert isinstance(group, TyperGroup)
    without = {name for name, command in commands(group) if "--json" not in {flag for option in command.params for flag in option.opts}}
    assert {name for name in without if not name.startswith("bench ")} == {"up", "demo"}  # these go on, and write files
