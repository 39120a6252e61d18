"""Models and data sets out of a tenant's own bucket, on a real S3."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.credentials.service import OpenCredential
from app.datasets.schemas import DatasetResource
from app.datasets.tables import DatasetRow
from app.models.tables import ModelRow
from app.webhooks.addresses import AddressRefused
from tests.servers.hub import Hub
from tests.servers.seaweedfs import SeaweedFS
from tests.workers.fetching.conftest import SetCredential, with_settings
from tests.worlds.jobs import World
from workers import guarded_http
from workers.context import Context
from workers.fetching.origin import SourceRefused
from workers.fetching.s3 import S3Prefix
from workers.guarded_http import GuardedTransport
from workers.runner import run


@pytest.fixture(autouse=True)
def _may_read(set_credential: SetCredential, seaweedfs: SeaweedFS) -> None:
    set_credential("s3", secrets_of(seaweedfs), endpoint_url=seaweedfs.endpoint_url, region=seaweedfs.region)


def secrets_of(seaweedfs: SeaweedFS) -> dict[str, str]:
    return {"access_key_id": seaweedfs.access_key, "secret_access_key": seaweedfs.secret_key}


def put(seaweedfs: SeaweedFS, bucket: str, files: dict[str, bytes], prefix: str = "") -> None:
    for path, data in files.items():
        seaweedfs.client().put_object(Bucket=bucket, Key=prefix + path, Body=data)


def fetch(context: Context, world: World, uri: str, noun: str = "dataset") -> ModelRow | DatasetRow:
    make = world.model if noun == "model" else world.dataset
    subject_id = make(status="inspecting", source={"type": "s3", "uri": uri})
    run(context, world.inspect(subject_id))
    return world.subject(subject_id)


def codes(subject: ModelRow | DatasetRow) -> list[str]:
    return [finding["code"] for finding in subject.findings]


class TestReady:
    @pytest.mark.parametrize("uri", ["s3://{}", "s3://{}/sets/one", "s3://{}/sets/one/"])
    def test_a_data_set_is_fetched_checked_and_kept(
        self, context: Context, world: World, seaweedfs: SeaweedFS, bucket: str, dataset_files: dict[str, bytes], uri: str
    ) -> None:
        put(seaweedfs, bucket, dataset_files, "sets/one/" if "sets" in uri else "")
        put(seaweedfs, bucket, {"sets/one-and-a-half/data.json": b"[]"} if "sets" in uri else {})
        row = fetch(context, world, uri.format(bucket))
        assert row.status == "ready", row.findings
        assert isinstance(row, DatasetRow)
        shown = DatasetResource.of(row)
        assert {file.path: file.sha256 for file in shown.files} == {
            path: hashlib.sha256(data).hexdigest() for path, data in dataset_files.items() if path.endswith((".json", ".png"))
        }
        assert {file.etag for file in shown.files} >= {hashlib.md5(dataset_files["data.json"], usedforsecurity=False).hexdigest()}
        assert shown.counts is not None
        assert (shown.counts.samples, shown.progress) == (3, None)
        assert "loader.py" in next(finding.detail for finding in shown.findings if finding.code == "not_fetched")
        for file in row.files:
            assert b"".join(context.store.open_range(file["key"])) == dataset_files[file["path"]]

    def test_a_model_leaves_pickles_and_code_where_they_are(
        self, context: Context, world: World, seaweedfs: SeaweedFS, bucket: str, model_files: dict[str, bytes]
    ) -> None:
        put(seaweedfs, bucket, model_files, "suspect/")
        row = fetch(context, world, f"s3://{bucket}/suspect", "model")
        assert row.status == "ready", row.findings
        assert not [file["path"] for file in row.files if file["path"].endswith((".bin", ".py"))]

    def test_the_version_that_was_read_is_recorded(
        self, context: Context, world: World, seaweedfs: SeaweedFS, bucket: str, dataset_files: dict[str, bytes]
    ) -> None:
        seaweedfs.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        put(seaweedfs, bucket, dataset_files)
        versions = seaweedfs.client().list_object_versions(Bucket=bucket)["Versions"]
        row = fetch(context, world, f"s3://{bucket}")
        recorded = {file["path"]: file["version_id"] for file in row.files}
        assert len(recorded) == 4
        assert recorded.items() <= {version["Key"]: version["VersionId"] for version in versions}.items()

    def test_bytes_that_the_tenant_has_already_are_not_stored_twice(
        self, context: Context, world: World, seaweedfs: SeaweedFS, bucket: str, dataset_files: dict[str, bytes]
    ) -> None:
        put(seaweedfs, bucket, dataset_files)
        one, other = (fetch(context, world, f"s3://{bucket}") for _ in range(2))
        assert [file["key"] for file in one.files] == [file["key"] for file in other.files]

    def test_a_job_waits_until_all_is_here(
        self, context: Context, world: World, seaweedfs: SeaweedFS, bucket: str, dataset_files: dict[str, bytes]
    ) -> None:
        put(seaweedfs, bucket, dataset_files)
        dataset_id = world.dataset(status="inspecting", source={"type": "s3", "uri": f"s3://{bucket}"})
        inspection = world.inspect(dataset_id)
        job_id = world.job("scan", dataset_id=dataset_id, shards=1)
        assert {status for _, status in world.statuses(job_id)} == {"blocked"}
        run(context, inspection)
        assert world.statuses(job_id)[0] == ("scan", "ready")


class TestRejected:
    """With a finding that says what to do about it, and nothing left in our store."""

    def test_no_such_bucket(self, context: Context, world: World) -> None:
        assert codes(fetch(context, world, "s3://nobody-has-this")) == ["no_such_bucket"]

    def test_no_such_prefix(self, context: Context, world: World, bucket: str) -> None:
        assert codes(fetch(context, world, f"s3://{bucket}/nothing/here")) == ["no_such_prefix"]

    def test_empty(self, context: Context, world: World, seaweedfs: SeaweedFS, bucket: str) -> None:
        put(seaweedfs, bucket, {"weights.bin": b"x"})
        row = fetch(context, world, f"s3://{bucket}", "model")
        assert codes(row) == ["empty"]
        assert "weights.bin" in row.findings[0]["detail"]

    @pytest.mark.parametrize("wrong", [{"secret_access_key": "wrong"}, {"access_key_id": "nobody"}])
    def test_forbidden(
        self, context: Context, world: World, seaweedfs: SeaweedFS, bucket: str, set_credential: SetCredential, wrong: dict[str, str]
    ) -> None:
        put(seaweedfs, bucket, {"data.json": b"[]"})
        set_credential("s3", {**secrets_of(seaweedfs), **wrong}, endpoint_url=seaweedfs.endpoint_url, scope=bucket)
        row = fetch(context, world, f"s3://{bucket}")
        assert (row.status, codes(row)) == ("rejected", ["forbidden"])
        assert "your credentials" in row.findings[0]["detail"]

    @pytest.mark.parametrize("keys", [None, SecretStr(Fernet.generate_key().decode())], ids=["no key", "another key"])
    def test_credentials_that_the_operator_can_no_longer_open(
        self, context: Context, world: World, bucket: str, keys: SecretStr | None
    ) -> None:
        row = fetch(with_settings(context, credential_keys=keys), world, f"s3://{bucket}")
        assert codes(row) == ["forbidden"]
        assert "LUSTRAL_CREDENTIAL_KEYS" in row.findings[0]["detail"]

    @pytest.mark.parametrize("limit", [{"max_source_bytes": 100}, {"max_stored_bytes": 100}])
    def test_too_large(
        self, context: Context, world: World, seaweedfs: SeaweedFS, bucket: str, dataset_files: dict[str, bytes], limit: dict[str, int]
    ) -> None:
        put(seaweedfs, bucket, dataset_files)
        row = fetch(with_settings(context, **limit), world, f"s3://{bucket}")
        assert codes(row) == ["too_large"]
        assert list(context.store.keys("inspections/")) == []

    def test_a_private_address_on_a_shared_server(self, context: Context, world: World, set_credential: SetCredential) -> None:
        set_credential("s3", {"access_key_id": "x", "secret_access_key": "x"}, endpoint_url="https://127.0.0.1:1", scope="mine")
        row = fetch(with_settings(context, allow_private_sources=False), world, "s3://mine")
        assert codes(row) == ["address_refused"]

    def test_something_else_at_the_endpoint(self, context: Context, world: World, hub: Hub, set_credential: SetCredential) -> None:
        set_credential("s3", {"access_key_id": "x", "secret_access_key": "x"}, endpoint_url=hub.endpoint, scope="mine")
        assert codes(fetch(context, world, "s3://mine")) == ["no_such_bucket"]

    def test_a_store_that_does_not_answer_is_asked_again_later(self, context: Context, world: World, set_credential: SetCredential) -> None:
        set_credential("s3", {"access_key_id": "x", "secret_access_key": "x"}, endpoint_url="http://127.0.0.1:9", scope="mine")
        subject_id = world.dataset(status="inspecting", source={"type": "s3", "uri": "s3://mine"})
        step_id = world.inspect(subject_id)
        run(context, step_id)
        step = world.step(step_id)
        assert (step.status, world.subject(subject_id).status) == ("ready", "inspecting")
        assert step.error is not None
        assert step.error["type"] == "urn:lustral:problem:outage"


class TestConnections:
    def test_that_break_are_taken_up_where_they_were(self, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> None:
        content = os.urandom(6 * 1024 * 1024)
        put(seaweedfs, bucket, {"data.json": content})
        with cutting_proxy(seaweedfs.endpoint_url, after=3 * 1024 * 1024) as (endpoint_url, sent):
            origin = S3Prefix(f"s3://{bucket}", OpenCredential(endpoint_url, seaweedfs.region, secrets_of(seaweedfs)), reach="loopback")
            [file] = origin.list_files().files
            counted: list[int] = []
            origin.fetch(file, tmp_path / "file", counted.append)
        assert (tmp_path / "file").read_bytes() == content
        assert sum(counted) == len(content)
        assert sum(sent) < len(content) + 2 * 1024 * 1024, "it did not begin again"

    def test_that_drip_are_left_to_a_later_attempt(
        self, context: Context, world: World, set_credential: SetCredential, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guarded_http, "PACE_SECONDS", 0.3)
        with dripping_server() as endpoint_url:
            set_credential("s3", {"access_key_id": "x", "secret_access_key": "x"}, endpoint_url=endpoint_url, scope="mine")
            step_id = world.inspect(world.dataset(status="inspecting", source={"type": "s3", "uri": "s3://mine"}))
            run(context, step_id)
        step = world.step(step_id)
        assert step.error is not None
        assert (step.status, step.error["type"]) == ("ready", "urn:lustral:problem:too-slow")

    @pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "500 Internal Server Error"])
    def test_whose_answers_have_no_end_are_left(self, status: str) -> None:
        with endless_server(status) as endpoint_url:
            origin = S3Prefix(
                "s3://mine", OpenCredential(endpoint_url, None, {"access_key_id": "x", "secret_access_key": "x"}), reach="loopback"
            )
            with pytest.raises(SourceRefused) as refused:
                origin.list_files()
        assert refused.value.finding.code == "not_s3"

    def test_go_to_the_address_that_was_checked_under_the_name_that_was_given(self, hub: Hub) -> None:
        with httpx.Client(transport=GuardedTransport(reach="loopback")) as client:
            answer = client.get(f"{hub.endpoint.replace('127.0.0.1', 'localhost')}/nothing")
        assert answer.status_code == 404
        assert answer.request.headers["Host"].startswith("localhost:")

    @pytest.mark.parametrize("url", ["https://127.0.0.1", "https://localhost", "https://[::ffff:10.0.0.1]", "http://example.com"])
    def test_to_private_addresses_are_not_made(self, url: str) -> None:
        with httpx.Client(transport=GuardedTransport(reach="public")) as client, pytest.raises(AddressRefused):
            client.get(url)


@contextmanager
def cutting_proxy(endpoint_url: str, *, after: int) -> Iterator[tuple[str, list[int]]]:
    """Another address of the store, over which each connection's answers end after so many bytes. Yields it, and what was sent over it."""
    upstream = urlsplit(endpoint_url)
    sent: list[int] = []

    class Cut(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            left = after
            with socket.create_connection((upstream.hostname, upstream.port)) as store:
                while True:
                    readable, _, _ = select.select([self.request, store], [], [])
                    data = readable[0].recv(65536)
                    if not data:
                        return
                    (store if readable[0] is self.request else self.request).sendall(data)
                    if readable[0] is store:
                        sent.append(len(data))
                        left -= len(data)
                        if left <= 0:
                            return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Cut) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
        server.shutdown()
        thread.join()


@contextmanager
def endless_server(status: str) -> Iterator[str]:
    """Answers everything with this status and a body that goes on until the other side leaves."""

    class Endless(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n".encode())
            with suppress(OSError):
                while True:
                    self.request.sendall(b" " * 65536)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def dripping_server() -> Iterator[str]:
    """A store whose answers come a byte at a time."""

    class Dripping(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n\r\n")
            with suppress(OSError):
                while not over.wait(0.02):
                    self.request.sendall(b" ")

    over = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        over.set()
        server.shutdown()
        thread.join()


class TestChanges:
    @pytest.fixture
    def origin(self, seaweedfs: SeaweedFS, bucket: str) -> S3Prefix:
        put(seaweedfs, bucket, {"data.json": b"before"})
        credential = OpenCredential(seaweedfs.endpoint_url, seaweedfs.region, secrets_of(seaweedfs))
        return S3Prefix(f"s3://{bucket}", credential, reach="loopback")

    def test_after_the_listing_are_noticed(self, origin: S3Prefix, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> None:
        [file] = origin.list_files().files
        put(seaweedfs, bucket, {"data.json": b"AFTER!"})
        with pytest.raises(SourceRefused) as refused:
            origin.fetch(file, tmp_path / "file", lambda _: None)
        assert refused.value.finding.code == "changed_while_reading"

    def test_so_are_deletions(self, origin: S3Prefix, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> None:
        [file] = origin.list_files().files
        seaweedfs.client().delete_object(Bucket=bucket, Key="data.json")
        with pytest.raises(SourceRefused) as refused:
            origin.fetch(file, tmp_path / "file", lambda _: None)
        assert refused.value.finding.code == "changed_while_reading"
