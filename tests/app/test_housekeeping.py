"""Each chore has its turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from app import housekeeping
from app.blobs.tables import BlobRow
from app.db import database_now
from app.runtime import Runtime
from app.settings import Settings
from tests.worlds.jobs import make_world


def test_a_chore_that_fails_keeps_no_other_from_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Runtime) -> None:
        raise RuntimeError("a row that cannot be read")

    url = f"sqlite:///{tmp_path / 'lustral.db'}"
    settings = Settings(database_url=url, broker_url="memory://", storage_url=f"file://{tmp_path / 'objects'}", secret_key="0" * 32)
    with make_world(url) as world:
        runtime = Runtime.open(settings)
        runtime.store.put_bytes("nobody/needs-it", b"x")
        with world.sessions.begin() as session:
            now = database_now(session)
            session.add(BlobRow(id="blob_1", tenant_id=world.tenant_id, key="nobody/needs-it", sha256="0", bytes=1, created_at=now))
        monkeypatch.setattr(housekeeping, "drop_expired", fail)
        housekeeping.keep_house(runtime)
        with world.sessions() as session:
            assert session.scalars(select(BlobRow)).all() == []
        assert list(runtime.store.keys("nobody/")) == []
        runtime.close()
