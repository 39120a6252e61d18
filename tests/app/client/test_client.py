"""The client against the real API, and against one that misbehaves in ways a real one seldom does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import httpx
import pytest

from app.client import ApiError, CorruptDownload, Lustral, events
from app.client.files import zipped
from app.client.retries import ATTEMPTS
from tests.app.client.flaky import CutBodies, run_behind
from tests.worlds.api import Tenant
from tests.worlds.artifacts import CONTENT, finished_job, leave

JOB = "job_1"


@pytest.fixture
def lustral(tenant: Tenant) -> Iterator[Lustral]:
    with Lustral(tenant.server.url, tenant.key) as client:
        yield client


def test_type_checkers_of_those_who_install_it_are_told_that_it_is_typed() -> None:
    assert resources.files("app").joinpath("py.typed").is_file()


class TestZipped:
    def test_holds_every_file_but_hidden_ones_and_is_gone_afterwards(self, tmp_path: Path) -> None:
        import zipfile

        for name in ("images/a.png", "data.json", ".DS_Store", ".git/config"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)
        with zipped(tmp_path) as archive:
            assert zipfile.ZipFile(archive).namelist() == ["data.json", "images/a.png"]
            assert zipfile.ZipFile(archive).read("images/a.png") == b"images/a.png"
        assert not archive.exists()

    def test_is_the_same_whenever_its_files_were_written(self, tmp_path: Path) -> None:
        made = []
        for when in (0, 10**9):
            (tmp_path / "data.json").write_text("the same")
            os.utime(tmp_path / "data.json", (when, when))
            with zipped(tmp_path) as archive:
                made.append(archive.read_bytes())
        assert made[0] == made[1]


class TestCall:
    def test_says_what_the_server_said(self, tenant: Tenant) -> None:
        with Lustral(tenant.server.url, "lus_wrong") as nobody, pytest.raises(ApiError, match="Unauthenticated") as caught:
            nobody.call("GET", "/v1/jobs")
        assert caught.value.status == 401

    def test_names_every_wrong_value(self, lustral: Lustral) -> None:
        with pytest.raises(ApiError) as caught:
            lustral.call("POST", "/v1/uploads", {"filename": "x", "bytes": -1, "colour": "red"})
        assert "/bytes" in str(caught.value)
        assert "/colour" in str(caught.value)

    def test_tries_again_as_the_same_request(self) -> None:
        keys: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            keys.append(request.headers["idempotency-key"])
            return httpx.Response(201, json={"id": JOB}) if len(keys) == 3 else httpx.Response(503, headers={"Retry-After": "0"})

        with Lustral("http://lustral", "key", transport=httpx.MockTransport(answer)) as client:
            assert client.create_job("scan", model_id="model_1")["id"] == JOB
        assert len(keys) == 3
        assert len(set(keys)) == 1

    def test_does_not_repeat_what_was_refused(self) -> None:
        asked: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(422, json={"title": "Invalid input", "detail": "no"})

        with Lustral("http://lustral", "key", transport=httpx.MockTransport(answer)) as client, pytest.raises(ApiError, match="no"):
            client.create_job("scan", model_id="model_1")
        assert len(asked) == 1


class TestPages:
    def test_reads_all_of_them(self, lustral: Lustral, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.client.lustral.PAGE_SIZE", 2)
        for number in range(4):
            tenant.post("/v1/keys", json={"name": f"key {number}"})
        assert [key["name"] for key in lustral.pages("/v1/keys")] == ["key 3", "key 2", "key 1", "key 0", "first key"]


class TestEvents:
    def test_goes_on_where_the_connection_broke(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "PAUSE", 0.0)
        asked_after: list[str | None] = []

        class Broken(httpx.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                yield _sse("evt_1", "job.queued") + _sse("evt_2", "job.started")
                raise httpx.ReadError("connection reset")

        def answer(request: httpx.Request) -> httpx.Response:
            asked_after.append(request.headers.get("last-event-id"))
            headers = {"Content-Type": "text/event-stream"}
            if len(asked_after) == 1:
                return httpx.Response(200, headers=headers, stream=Broken())
            return httpx.Response(200, headers=headers, content=_sse("evt_3", "job.succeeded"))

        with Lustral("http://lustral", "key", transport=httpx.MockTransport(answer)) as client:
            seen = [event["id"] for event in client.events(JOB)]
        assert seen == ["evt_1", "evt_2", "evt_3"]
        assert asked_after == [None, "evt_2"]

    def test_ends_at_once_when_nothing_is_left_to_tell(self) -> None:
        with Lustral("http://lustral", "key", transport=httpx.MockTransport(lambda _: httpx.Response(204))) as client:
            assert list(client.events(JOB, after="evt_9")) == []


class TestDownload:
    def test_keeps_what_has_the_announced_digest(self, tmp_path: Path) -> None:
        with Lustral("http://lustral", "key", transport=_serving(b"weights")) as client:
            path = client.download(_artifact(b"weights"), tmp_path)
        assert path.read_bytes() == b"weights"

    def test_keeps_nothing_that_has_another(self, tmp_path: Path) -> None:
        with Lustral("http://lustral", "key", transport=_serving(b"tampered")) as client, pytest.raises(CorruptDownload):
            client.download(_artifact(b"weights"), tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_goes_on_where_the_connection_broke(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with run_behind(CutBodies, tmp_path, monkeypatch, every=len(CONTENT) // 3 + 1) as server, server.new_tenant() as tenant:
            job_id = finished_job(tenant)
            leave(tenant, job_id, "model/model.safetensors")
            with Lustral(server.url, tenant.key) as client:
                [artifact] = client.artifacts(job_id)
                path = client.download(artifact, tmp_path / "out")
        assert path.read_bytes() == CONTENT
        assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]

    def test_asks_only_for_the_rest_of_the_same_content(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.client.retries.time.sleep", lambda _: None)
        store = _Store(b"old weights", b"new weights")
        with Lustral("http://lustral", "key", transport=httpx.MockTransport(store.answer)) as client:
            path = client.download(_artifact(b"new weights"), tmp_path)
        assert path.read_bytes() == b"new weights"
        assert store.asked == [(None, None), ("bytes=4-", '"old"'), ("bytes=4-", '"new"'), ("bytes=8-", '"new"')]

    def test_is_whole_though_the_connection_broke_behind_its_last_byte(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.client.retries.time.sleep", lambda _: None)

        def whole() -> Iterator[bytes]:
            yield b"weights"
            raise httpx.ReadError("cut off")

        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(416) if "range" in request.headers else httpx.Response(200, content=whole())

        with Lustral("http://lustral", "key", transport=httpx.MockTransport(answer)) as client:
            assert client.download(_artifact(b"weights"), tmp_path).read_bytes() == b"weights"

    def test_is_given_up_where_no_connection_brings_anything(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.client.retries.time.sleep", lambda _: None)
        asked = []

        def refuse(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            raise httpx.ConnectError("nobody there")

        with Lustral("http://lustral", "key", transport=httpx.MockTransport(refuse)) as client, pytest.raises(httpx.ConnectError):
            client.download(_artifact(b"weights"), tmp_path)
        assert len(asked) == ATTEMPTS
        assert list(tmp_path.iterdir()) == []

    def test_refuses_a_name_that_leads_out_of_the_folder(self, tmp_path: Path) -> None:
        with Lustral("http://lustral", "key", transport=_serving(b"weights")) as client, pytest.raises(ValueError, match="leads out"):
            client.download({**_artifact(b"weights"), "name": "../weights"}, tmp_path / "out")

    def test_does_not_show_the_key_to_the_object_store(self, tmp_path: Path) -> None:
        shown: dict[str, str | None] = {}

        def answer(request: httpx.Request) -> httpx.Response:
            shown[request.url.host] = request.headers.get("authorization")
            if request.url.host == "lustral":
                return httpx.Response(307, headers={"Location": "http://store/object?signature=1"})
            return httpx.Response(200, content=b"weights")

        with Lustral("http://lustral", "key", transport=httpx.MockTransport(answer)) as client:
            client.download(_artifact(b"weights"), tmp_path)
        assert shown == {"lustral": "Bearer key", "store": None}


class _Store:
    """Sends four bytes and breaks off. Its content becomes `new` after the first request."""

    def __init__(self, old: bytes, new: bytes) -> None:
        self._content = {"old": old, "new": new}
        self.asked: list[tuple[str | None, str | None]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked, same = request.headers.get("range"), request.headers.get("if-range")
        version = "new" if self.asked else "old"
        self.asked.append((asked, same))
        start = int(asked[6:-1]) if asked and same == f'"{version}"' else 0
        return httpx.Response(206 if start else 200, headers={"ETag": f'"{version}"'}, stream=_Cut(self._content[version][start:]))


class _Cut(httpx.SyncByteStream):
    def __init__(self, rest: bytes) -> None:
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        yield self._rest[:4]
        if len(self._rest) > 4:
            raise httpx.ReadError("connection reset")


def _sse(id: str, type: str) -> bytes:
    event = {"id": id, "type": type, "data": {}, "created_at": "2026-01-01T00:00:00Z"}
    return f"id: {id}\nevent: {type}\ndata: {json.dumps(event)}\n\n".encode()


def _artifact(content: bytes) -> dict[str, str]:
    return {"id": "art_1", "name": "model.zip", "sha256": hashlib.sha256(content).hexdigest()}


def _serving(content: bytes) -> httpx.MockTransport:
    answer: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200, content=content)  # noqa: E731
    return httpx.MockTransport(answer)
