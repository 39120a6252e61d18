"""`lustral doctor`, against real servers that are well, and against each way of not being well."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from botocore.exceptions import ClientError
from cryptography.fernet import Fernet
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import make_engine
from app.doctor import clock, machine, objects
from app.doctor.broker import check_broker
from app.doctor.configuration import check_settings, explain
from app.doctor.database import check_database
from app.doctor.examine import examine
from app.doctor.finding import Finding
from app.doctor.objects import check_storage
from app.jobs.partitions import ends
from app.migrate import known_revisions, upgrade
from app.settings import MIB, Settings
from app.storage import ObjectStore
from tests.conftest import Profile
from tests.servers.ports import free_ports
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.valkey import Valkey
from tests.worlds.partitions import dissolve


def settings(**fields: Any) -> Settings:
    common = {
        "database_url": "sqlite://",
        "broker_url": "memory://",
        "storage_url": "file:///nowhere",
        "secret_key": secrets.token_hex(32),
        "credential_keys": Fernet.generate_key().decode(),
    }
    return Settings.model_validate({**common, **fields})


def s3(seaweedfs: SeaweedFS, bucket: str, **fields: Any) -> Settings:
    keys = {"s3_access_key_id": seaweedfs.access_key, "s3_secret_access_key": seaweedfs.secret_key}
    return settings(storage_url=f"s3://{bucket}?endpoint={seaweedfs.endpoint_url}", **{**keys, **fields})


def environment(made: Settings) -> dict[str, str]:
    names = ("database_url", "broker_url", "storage_url", "work_dir")
    secret = {"secret_key", "credential_keys", "s3_access_key_id", "s3_secret_access_key"}
    values = {name: getattr(made, name) for name in names} | {
        name: getattr(made, name).get_secret_value() for name in secret if getattr(made, name)
    }
    return {f"LUSTRAL_{name.upper()}": str(value) for name, value in values.items() if value is not None}


def troubles(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(finding.status, finding.detail) for finding in findings if finding.status != "ok"]


def the_trouble(findings: Iterable[Finding], status: str = "failed") -> Finding:
    [found] = [finding for finding in findings if finding.status != "ok"]
    assert found.status == status, found
    assert found.advice
    return found


@pytest.fixture
def healthy(profile: Profile) -> Settings:
    """The settings of a service where all is well."""
    upgrade(profile.database_url)
    common = {"database_url": profile.database_url, "broker_url": profile.broker_url, "work_dir": profile.data_dir}
    if profile.s3 is None or profile.bucket is None:
        return settings(storage_url=f"file://{profile.data_dir / 'objects'}", **common)
    return s3(profile.s3, profile.bucket, **common)


class TestHealthy:
    def test_finds_nothing(self, healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "SCARCE", 0)  # the disk of this machine is not the question
        findings = list(examine(healthy))
        assert troubles(findings) == []
        assert {finding.check for finding in findings} >= {"settings", "database", "broker", "storage", "clock", "packages", "disk", "gpu"}


class TestCommand:
    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app.cli", "doctor", *arguments]
        return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True)

    def test_says_what_to_do_and_ends_with_1(self, tmp_path: Path, broker_url: str) -> None:
        made = settings(
            database_url=f"sqlite:///{tmp_path / 'x.db'}", broker_url=broker_url, storage_url=f"file://{tmp_path}/o", work_dir=tmp_path
        )
        ran = self.run("--json", **environment(made))
        report = json.loads(ran.stdout)
        assert (ran.returncode, report["ok"]) == (1, False)
        [failure] = [finding for finding in report["findings"] if finding["status"] == "failed"]
        assert failure == {
            "check": "database",
            "status": "failed",
            "detail": "has no schema yet",
            "advice": "Run: lustral operate migrate",
        }
        upgrade(made.database_url)
        ran = self.run(**environment(made))
        assert ran.returncode == 0, ran.stdout
        assert "schema" in ran.stdout
        assert "failed" not in ran.stdout

    def test_without_a_service_says_so_and_still_looks_at_the_machine(self, tmp_path: Path) -> None:
        ran = self.run("--json", "--data-dir", str(tmp_path))
        report = json.loads(ran.stdout)
        assert ran.returncode == 1
        assert [finding["check"] for finding in report["findings"]] == ["settings", "packages", "disk", "gpu"]

    def test_shows_no_value_of_a_setting(self, tmp_path: Path) -> None:
        ran = self.run("--data-dir", str(tmp_path), LUSTRAL_SECRET_KEY="hunter2", LUSTRAL_LEASE_SECONDS="hunter3")
        assert ran.returncode == 1
        assert "LUSTRAL_SECRET_KEY" in ran.stdout
        assert "LUSTRAL_LEASE_SECONDS" in ran.stdout
        assert "hunter" not in ran.stdout + ran.stderr


class TestSettings:
    @pytest.mark.parametrize(
        ("fields", "names"),
        [
            ({"secret_key": "x" * 40}, "LUSTRAL_SECRET_KEY"),
            ({"secret_key": "please-changeme-before-you-start-0123"}, "LUSTRAL_SECRET_KEY"),
            ({"allow_private_webhooks": True, "public_url": "https://lustral.example.org"}, "LUSTRAL_ALLOW_PRIVATE_WEBHOOKS"),
            ({"allow_private_sources": True, "public_url": "https://lustral.example.org"}, "LUSTRAL_ALLOW_PRIVATE_SOURCES"),
            ({"allow_loopback_webhooks": True, "public_url": "https://lustral.example.org"}, "LUSTRAL_ALLOW_LOOPBACK_WEBHOOKS"),
            ({"allow_loopback_sources": True, "public_url": "https://lustral.example.org"}, "LUSTRAL_ALLOW_LOOPBACK_SOURCES"),
            ({"s3_public_endpoint": "http://localhost:8333", "public_url": "https://lustral.example.org"}, "LUSTRAL_S3_PUBLIC_ENDPOINT"),
            ({"lease_seconds": 5.0}, "LUSTRAL_LEASE_SECONDS"),
        ],
    )
    def test_that_are_dangerous_fail(self, fields: dict[str, Any], names: str) -> None:
        found = the_trouble(check_settings(settings(**{"database_url": "postgresql+psycopg://u:long-enough@db/x", **fields})))
        assert names in found.detail

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"public_url": "http://lustral.example.org", "database_url": "postgresql+psycopg://u:p3q9@db/x"}, "https"),
            ({"public_url": "https://lustral.example.org"}, "SQLite"),
            ({"credential_keys": None}, "LUSTRAL_CREDENTIAL_KEYS"),
            ({"database_url": "postgresql+psycopg://lustral:lustral@db/lustral"}, "LUSTRAL_DATABASE_URL"),
            ({"broker_url": "redis://broker:6379/0"}, "LUSTRAL_BROKER_URL"),
        ],
    )
    def test_that_will_hurt_are_warned_of(self, fields: dict[str, Any], says: str) -> None:
        assert says in the_trouble(check_settings(settings(**fields)), "warning").detail

    def test_that_cannot_be_read_are_named(self) -> None:
        with pytest.raises(ValidationError) as refused:
            settings(lease_seconds=-1)
        assert "LUSTRAL_LEASE_SECONDS" in the_trouble(explain(refused.value)).detail


class TestDatabase:
    def test_that_does_not_listen(self) -> None:
        [port] = free_ports(1)
        found = the_trouble(check_database(settings(database_url=f"postgresql+psycopg://lustral:hunter2@127.0.0.1:{port}/x")))
        assert "cannot be used" in found.detail
        assert "hunter2" not in found.detail

    def test_that_refuses_the_password(self, postgres_url: str) -> None:
        found = the_trouble(check_database(settings(database_url=postgres_url.replace("only-for-tests", "hunter2"))))
        assert "authentication" in found.detail

    @pytest.mark.parametrize(("revision", "says"), [("0001", "is behind"), ("9999", "later version")])
    def test_whose_schema_is_not_the_codes(self, tmp_path: Path, revision: str, says: str) -> None:
        url = f"sqlite:///{tmp_path / 'x.db'}"
        upgrade(url, "0001")
        engine = make_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
            assert MigrationContext.configure(connection).get_current_revision() == revision
        engine.dispose()
        assert says in the_trouble(check_database(settings(database_url=url))).detail

    def test_revisions_are_known_in_their_order(self) -> None:
        assert known_revisions() == sorted(known_revisions())

    def test_without_a_partition_for_the_events_of_today(self, postgres_url: str) -> None:
        upgrade(postgres_url)
        engine = make_engine(postgres_url)
        with Session(engine) as session, session.begin():
            dissolve(session, *ends(session))
        engine.dispose()
        assert "events_other" in the_trouble(check_database(settings(database_url=postgres_url)), "warning").detail

    def test_whose_events_belong_to_another(self, postgres_url: str) -> None:
        upgrade(postgres_url)
        engine = make_engine(postgres_url)
        with engine.begin() as connection:
            connection.execute(text("CREATE ROLE a_stranger LOGIN PASSWORD 'only-for-tests'"))
            connection.execute(text("GRANT pg_read_all_data TO a_stranger"))
        strangers = engine.url.set(username="a_stranger").render_as_string(hide_password=False)
        found = the_trouble(check_database(settings(database_url=strangers)))
        with engine.begin() as connection:
            connection.execute(text("DROP ROLE a_stranger"))
        engine.dispose()
        assert "belongs to another" in found.detail


class TestBroker:
    def test_that_does_not_listen(self) -> None:
        [port] = free_ports(1)
        assert "cannot be reached" in the_trouble(check_broker(settings(broker_url=f"redis://127.0.0.1:{port}/0"))).detail

    def test_that_refuses_the_password(self, valkey: Valkey) -> None:
        found = the_trouble(check_broker(settings(broker_url=f"redis://:hunter2@127.0.0.1:{valkey.port}/0")))
        assert "refuses us" in found.detail
        assert "hunter2" not in found.detail


class TestStorage:
    def test_that_does_not_listen(self) -> None:
        [port] = free_ports(1)
        assert "cannot be used" in the_trouble(check_storage(settings(storage_url=f"s3://x?endpoint=http://127.0.0.1:{port}"))).detail

    def test_without_the_bucket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def answer_as_aws(_: Settings) -> ObjectStore:  # SeaweedFS makes the bucket by itself
            raise ClientError({"Error": {"Code": "NoSuchBucket"}}, "PutObject")

        monkeypatch.setattr(objects, "open_store", answer_as_aws)
        assert the_trouble(check_storage(settings())).advice == "Make the bucket: lustral operate migrate"

    def test_that_refuses_the_keys(self, seaweedfs: SeaweedFS, bucket: str) -> None:
        found = the_trouble(check_storage(s3(seaweedfs, bucket, s3_secret_access_key="wrong")))
        assert "SignatureDoesNotMatch" in found.detail

    def test_whose_links_lead_nowhere(self, seaweedfs: SeaweedFS, bucket: str) -> None:
        [port] = free_ports(1)
        found = the_trouble(check_storage(s3(seaweedfs, bucket, s3_public_endpoint=f"http://127.0.0.1:{port}")), "warning")
        assert "could not be followed" in found.detail

    def test_leaves_nothing_behind(self, seaweedfs: SeaweedFS, bucket: str) -> None:
        assert troubles(check_storage(s3(seaweedfs, bucket))) == []
        assert "Contents" not in seaweedfs.client().list_objects_v2(Bucket=bucket)

    def test_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot be used" in the_trouble(check_storage(settings(storage_url=f"file://{tmp_path}/file/objects"))).detail


@pytest.mark.parametrize(("seconds", "status"), [(-1, "ok"), (10, "warning"), (-10, "warning"), (200, "failed"), (-200, "failed")])
def test_clocks_may_differ_a_little(seconds: int, status: str) -> None:
    assert clock.compare("the database", timedelta(seconds=seconds)).status == status


class TestMachine:
    def test_disk_that_is_nearly_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "TOO_LITTLE", 10**18)
        assert "free at" in the_trouble(machine.check_disk(settings(work_dir=tmp_path, cache_bytes=MIB))).detail

    def test_cache_that_is_larger_than_the_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "SCARCE", 0)
        found = the_trouble(machine.check_disk(settings(work_dir=tmp_path, cache_bytes=10**18)), "warning")
        assert "LUSTRAL_CACHE_BYTES" in found.detail

    def test_package_that_is_too_old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "requires", lambda _: ["pydantic>=99", "no-such-package", "torch>=99; extra == 'gpu'"])
        found = the_trouble(machine.check_packages())
        assert "pydantic" in found.detail
        assert "no-such-package is missing" in found.detail
        assert "torch" not in found.detail

    def test_gpu_that_is_not_there(self, tmp_path: Path) -> None:
        assert troubles(machine.check_gpu(needed=False, devices=tmp_path)) == []
        assert "no GPU" in the_trouble(machine.check_gpu(needed=True, devices=tmp_path)).detail

    @pytest.mark.parametrize(
        ("program", "says"),
        [
            ("raise RuntimeError('CUDA driver is too old')", "CUDA driver is too old"),
            ('print(\'{"cuda": null, "gpus": []}\')', "built without CUDA"),
            ('print(\'{"cuda": "12.8", "gpus": []}\')', "no usable driver"),
        ],
    )
    def test_gpu_that_torch_cannot_use(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, says: str) -> None:
        (tmp_path / "nvidia0").touch()
        monkeypatch.setattr(machine, "_ASK_TORCH", program)
        assert says in the_trouble(machine.check_gpu(needed=False, devices=tmp_path)).detail

    def test_gpu_that_works(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "nvidia0").touch()
        monkeypatch.setattr(machine, "_ASK_TORCH", """print('{"cuda": "12.8", "gpus": [["H100", 1073741824, 2147483648]]}')""")
        [finding] = machine.check_gpu(needed=True, devices=tmp_path)
        assert finding.detail == "H100, 1 of 2 GiB free, CUDA 12.8"
