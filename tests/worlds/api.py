"""A running API and tenants who call it over real HTTP."""

from __future__ import annotations

import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from app.auth.service import bootstrap
from app.main import create_app
from app.migrate import upgrade
from app.runtime import Runtime
from app.settings import MIB, Settings

PART = 5 * MIB  # the smallest part that S3 takes


@dataclass(frozen=True)
class Server:
    """The API, listening."""

    url: str
    app: FastAPI

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.app.state.runtime
        return runtime

    def new_tenant(self) -> Tenant:
        """Somebody whom no other test knows: what isolates tests is what isolates customers."""
        with self.runtime.write.begin() as session:
            key = bootstrap(session, self.runtime.signer, tenant=f"tenant {secrets.token_hex(8)}")
        with self.runtime.read() as session:
            from app.auth.tables import ApiKeyRow

            row = session.get(ApiKeyRow, key.id)
            assert row is not None
        return Tenant(self, row.tenant_id, key.key)


class Tenant(httpx.Client):
    """An HTTP client with a tenant's key, and the few steps that many tests begin with."""

    def __init__(self, server: Server, tenant_id: str, key: str) -> None:
        super().__init__(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=30)
        self.server = server
        self.tenant_id = tenant_id
        self.key = key

    def announce(self, data: bytes, **fields: Any) -> dict[str, Any]:
        """Create an upload for `data`."""
        body = {"filename": "file.bin", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **fields}
        return expect(self.post("/v1/uploads", json=body), 201)

    def announce_parts(self, data: bytes, **fields: Any) -> dict[str, Any]:
        """Create an upload for `data` whose parts are stated with their digests."""
        pieces = [data[start : start + PART] for start in range(0, len(data), PART)]
        return self.announce(data, parts=[{"bytes": len(piece), "sha256": hashlib.sha256(piece).hexdigest()} for piece in pieces], **fields)

    def send_parts(self, upload: dict[str, Any], data: bytes) -> None:
        """PUT every part that is missing, without the key: the links are their own permission."""
        for part in upload["parts"]:
            if part["url"] is not None:
                start = (part["number"] - 1) * upload["part_size"]
                answer = httpx.put(part["url"], content=data[start : start + part["bytes"]], headers=part["headers"], timeout=30)
                assert answer.status_code == 200, answer.text

    def upload(self, data: bytes, **fields: Any) -> str:
        """The id of a completed upload."""
        upload = self.announce(data, **fields)
        self.send_parts(upload, data)
        expect(self.post(f"/v1/uploads/{upload['id']}/complete"), 200)
        upload_id: str = upload["id"]
        return upload_id

    def register(self, noun: str, *upload_ids: str, paths: tuple[str, ...] | None = None) -> dict[str, Any]:
        """A model or data set of these uploads."""
        files = [{"path": (paths or [f"file-{number}.bin"] * 99)[number], "upload_id": id} for number, id in enumerate(upload_ids)]
        return expect(self.post(f"/v1/{noun}", json={"name": "one", "source": {"type": "upload", "files": files}}), 201)

    def stored(self) -> set[str]:
        """Keys of everything this tenant has in the object store."""
        return set(self.server.runtime.store.keys(f"tenants/{self.tenant_id}/"))


def expect(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an answer that has this status."""
    assert response.status_code == status, f"{response.request.method} {response.request.url}: {response.status_code} {response.text}"
    body: dict[str, Any] = response.json() if response.content else {}
    return body


def expect_problem(response: httpx.Response, status: int, *pointers: str) -> dict[str, Any]:
    """The problem document of an answer; its `errors` point at exactly these places, where any are named."""
    problem = expect(response, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"].startswith("urn:lustral:problem:")
    assert problem["title"]
    assert problem["detail"]
    if pointers:
        found = [fault["pointer"] for fault in problem.get("errors", [])]
        assert found == list(pointers), f"points at {found}, not at {list(pointers)}"
    return problem


@contextmanager
def run_server(settings: Settings) -> Iterator[Server]:
    """The API of these settings on a free port, its schema made by the migrations."""
    upgrade(settings.database_url)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(settings.model_copy(update={"public_url": url}))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the API did not start"
                time.sleep(0.01)
            yield Server(url, app)
        finally:
            server.should_exit = True
            thread.join()
