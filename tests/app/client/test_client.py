"""The client against the real API, and against one that misbehaves in ways a real one seldom does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.client import ApiError, CorruptDownload, Lustral, events
from app.client.files import zipped
from tests.worlds.api import Tenant

JOB = "job_1"


@pytest.fixture
def lustral(tenant: Tenant) -> Iterator[Lustral]:
    with Lustral(tenant.server.url, tenant.key) as client:
        yield client


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


def _sse(id: str, type: str) -> bytes:
    event = {"id": id, "type": type, "data": {}, "created_at": "2026-01-01T00:00:00Z"}
    return f"id: {id}\nevent: {type}\ndata: {json.dumps(event)}\n\n".encode()


def _artifact(content: bytes) -> dict[str, str]:
    return {"id": "art_1", "name": "model.zip", "sha256": hashlib.sha256(content).hexdigest()}


def _serving(content: bytes) -> httpx.MockTransport:
    answer: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200, content=content)  # noqa: E731
    return httpx.MockTransport(answer)
