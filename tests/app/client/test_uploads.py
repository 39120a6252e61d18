"""Files go up in parts, and whatever breaks an upload off, no part goes twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.client import ApiError, FileChanged, uploads
from app.client.transport import Transport
from app.client.uploads import digest_file, upload_file
from tests.worlds.api import PART, Tenant, expect

CONTENT = bytes(range(256)) * (2 * PART // 256) + b"the end"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_SIZE", PART)
    monkeypatch.setattr(uploads, "PAUSE", 0.0)


@pytest.fixture
def transport(tenant: Tenant) -> Iterator[Transport]:
    opened = Transport(tenant.server.url, tenant.key)
    yield opened
    opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "weights.bin").write_bytes(CONTENT)
    return tmp_path / "weights.bin"


class TestUploadFile:
    def test_sends_every_part_and_tells_how_much(self, tenant: Tenant, transport: Transport, path: Path) -> None:
        sent: list[int] = []
        upload = expect(tenant.get(f"/v1/uploads/{upload_file(transport, path, sent.append)}"), 200)
        assert (upload["status"], upload["sha256"]) == ("completed", hashlib.sha256(CONTENT).hexdigest())
        assert sorted(sent) == [7, PART, PART]

    def test_takes_an_empty_file(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        assert upload_file(transport, tmp_path / "empty").startswith("upl_")

    def test_goes_on_where_it_broke_off(self, tenant: Tenant, transport: Transport, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uploads, "PARALLEL_PARTS", 1)

        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            upload_file(transport, path, interrupt)
        sent: list[int] = []
        resumed: list[tuple[str, int, int]] = []
        upload_id = upload_file(transport, path, sent.append, lambda *there: resumed.append(there))
        assert resumed == [("weights.bin", 1, 3)]
        assert sent == [PART, PART, 7]  # the first was there
        assert [upload["id"] for upload in expect(tenant.get("/v1/uploads"), 200)["data"]] == [upload_id]

    def test_sends_nothing_that_the_server_has(self, transport: Transport, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        upload_file(transport, path)
        monkeypatch.setattr(transport, "put", None)
        sent: list[int] = []
        upload_file(transport, path, sent.append)
        assert sent == [len(CONTENT)]

    @pytest.mark.parametrize("changed", [CONTENT[::-1], CONTENT[:PART]], ids=["other", "shorter"])
    def test_notices_that_the_file_changes_meanwhile(
        self, tenant: Tenant, transport: Transport, path: Path, monkeypatch: pytest.MonkeyPatch, changed: bytes
    ) -> None:
        monkeypatch.setattr(uploads, "PARALLEL_PARTS", 1)
        with pytest.raises(FileChanged, match="changed while"):
            upload_file(transport, path, lambda _: path.write_bytes(changed))
        assert expect(tenant.get("/v1/uploads"), 200)["data"] == []

    def test_leaves_the_upload_where_a_part_is_refused(self, path: Path) -> None:
        server = _Scripted(put_status=403)
        with pytest.raises(ApiError):
            upload_file(server.transport(), path)
        assert not any(request.startswith("DELETE") for request in server.asked)

    def test_waits_for_a_completion_that_takes_longer_than_a_request(self, path: Path) -> None:
        server = _Scripted(completing=3)
        assert upload_file(server.transport(), path) == "upl_1"
        assert server.asked.count("POST /v1/uploads/upl_1/complete") == 4


class TestDigestFile:
    def test_reads_all_digests_at_once(self, path: Path) -> None:
        digests = digest_file(path, len(CONTENT), PART)
        assert digests.whole == hashlib.sha256(CONTENT).hexdigest()
        assert digests.parts == [hashlib.sha256(CONTENT[start : start + PART]).hexdigest() for start in (0, PART, 2 * PART)]

    @pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
    def test_notices_a_file_of_another_size(self, path: Path, size: int) -> None:
        with pytest.raises(FileChanged):
            digest_file(path, size, PART)


class _Scripted:
    """A server that answers as the real one does when it is busy or its store refuses. completing: how often before it is done."""

    def __init__(self, put_status: int = 200, completing: int = 0) -> None:
        self.asked: list[str] = []
        self._put_status = put_status
        self._completing = completing

    def transport(self) -> Transport:
        return Transport("http://lustral", "key", httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        match self.asked[-1].split("/"):
            case ["PUT ", *_]:
                return httpx.Response(self._put_status)
            case ["GET ", "v1", "uploads"]:
                return httpx.Response(200, json={"data": []})
            case ["POST ", "v1", "uploads", _, "complete"]:
                self._completing -= 1
                return httpx.Response(200, json={"status": "completed" if self._completing < 0 else "completing"})
        part = {"number": 1, "bytes": len(CONTENT), "received": False, "url": "/part", "headers": {}}
        return httpx.Response(201, json={"id": "upl_1", "status": "open", "part_size": len(CONTENT), "parts": [part]})
