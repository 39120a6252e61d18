"""Each chore has its turn."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from sqlalchemy import select

from app import housekeeping
from app.blobs.tables import BlobRow
from app.db import database_now
from app.runtime import Runtime
from app.settings import Settings
from tests.killed import run_until_killed
from tests.worlds.jobs import make_world

OPEN = """
from pathlib import Path
from app.storage_folder import FolderStore
root = Path({root!r})
store = FolderStore(root)
"""
PUT = """
def half():
    yield b"x" * 1000
    kill()
store._write("jobs/job_1/model", half())
"""
SEND_PART = """
import shutil
def remove(folder, **_):
    (folder / "key").unlink()
    kill()
shutil.rmtree = remove
key = "tenants/ten_1/uploads/upl_1"
upload = store.start_multipart(key)
(root / "part").write_bytes(b"x" * 1000)
store.put_part(key, upload, 1, root / "part")
"""
ABORT = SEND_PART + "store.abort_multipart(key, upload)"
COMPLETE = SEND_PART + "store.complete_multipart(key, upload, store.list_parts(key, upload))"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    url = f"sqlite:///{tmp_path / 'lustral.db'}"
    settings = Settings(database_url=url, broker_url="memory://", storage_url=f"file://{tmp_path / 'objects'}", secret_key="0" * 32)
    with make_world(url):
        made = Runtime.open(settings)
        yield made
        made.close()


@pytest.mark.parametrize("code", [PUT, ABORT, COMPLETE], ids=["put", "abort", "complete"])
def test_what_a_killed_process_left_half_done_goes_once_nobody_can_be_at_it(runtime: Runtime, tmp_path: Path, code: str) -> None:
    root = tmp_path / "objects"
    run_until_killed(OPEN.format(root=str(root)) + code)

    def left_over() -> list[Path]:
        return [path for path in root.rglob("*") if path.is_file() and root / "objects" not in path.parents]

    housekeeping.keep_house(runtime)
    assert left_over() != [], "another process may be at it"
    with time_machine.travel(datetime.now(UTC) + timedelta(days=2), tick=True):
        housekeeping.keep_house(runtime)
    assert left_over() == []


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
