"""A worker's context over a world in SQLite, and steps that stand in for the science."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from app.settings import Settings
from tests.worlds.jobs import World, make_world
from workers import shutdown
from workers.context import Context, make_context


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(f"sqlite:///{tmp_path / 'lustral.db'}") as made:
        yield made


@pytest.fixture
def context(world: World, tmp_path: Path) -> Iterator[Context]:
    url = world.sessions.kw["bind"].url.render_as_string(hide_password=False)
    settings = Settings(
        database_url=url,
        broker_url="memory://",
        storage_url=f"file://{tmp_path / 'objects'}",
        secret_key="0123456789abcdef0123456789abcdef",
        work_dir=tmp_path / "work",
        heartbeat_seconds=0.02,
        allow_private_webhooks=True,
        allow_private_sources=True,
        credential_keys=Fernet.generate_key().decode(),
    )
    made = make_context(settings)
    yield made
    made.runtime.close()


@pytest.fixture(autouse=True)
def _not_shutting_down() -> Iterator[None]:
    shutdown.forget()
    yield
    shutdown.forget()


@pytest.fixture
def stored(context: Context) -> Stored:
    return Stored(context)


class Stored:
    """Files in the object store, as manifests name them."""

    def __init__(self, context: Context) -> None:
        self._store = context.store

    def __call__(self, path: str, content: bytes, *, archive: bool = False) -> dict[str, Any]:
        key = f"uploads/{hashlib.sha256(content).hexdigest()}"
        self._store.put_bytes(key, content)
        return {"path": path, "key": key, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "archive": archive}
