"""A small Hugging Face hub: the few addresses that huggingface_hub reads repositories from, with the headers and errors of the real one.

Like there, small files come from git and are named by git's digest; large ones by their SHA-256, from another address.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 1024
"""Bytes from which on a file is a large one, kept by Git LFS."""

_API = re.compile(r"^/api/(model|dataset)s/([^/]+/[^/]+)/(revision|tree)/(.+)$")
_RESOLVE = re.compile(r"^/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@dataclass
class Repository:
    """One commit. gated, private: only `token` opens it."""

    files: dict[str, bytes]
    token: str | None = None
    gated: bool = False

    @property
    def commit(self) -> str:
        content = json.dumps({path: blob_id(data) for path, data in self.files.items()})
        return hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """The hub as tests see it. Repositories are named `models/owner/name` or `datasets/owner/name`.

    truncated: paths whose next download breaks off in the middle. lied_about: whose bytes are not those listed.
    held: paths whose downloads wait in the middle until `released` is set. downloads: how often each path was sent whole.
    """

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    truncated: set[str] = field(default_factory=set)
    lied_about: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    released: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    downloads: dict[str, int] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)


def blob_id(data: bytes) -> str:
    """How git names the content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def run_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        world = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    world: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := _API.match(path):
            self._answer_api(f"{match[1]}s/{match[2]}", match[3], match[4])
        elif match := _RESOLVE.match(path):
            self._resolve(f"{'datasets' if match[1] else 'models'}/{match[2]}", match[3], match[4])
        elif path.startswith("/cdn/"):
            name, _, file = path.removeprefix("/cdn/").partition("//")
            self._send_file(file, self.world.repositories[name].files[file])
        else:
            self._refuse(404, "EntryNotFound")

    def _answer_api(self, name: str, what: str, revision: str) -> None:
        repository = self._repository(name, revision, metadata=True)
        if repository is None:
            return
        if what == "revision":
            self._send_json({"id": name.partition("/")[2], "sha": repository.commit, "siblings": [], "tags": [], "downloads": 0})
            return
        entries = []
        for path, data in repository.files.items():
            entry: dict[str, object] = {"type": "file", "oid": blob_id(data), "size": len(data), "path": path}
            if len(data) >= LARGE:
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        self._send_json(entries)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision, metadata=False)
        if repository is None:
            return
        if path not in repository.files:
            self._refuse(404, "EntryNotFound")
            return
        data = repository.files[path]
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{blob_id(data)}"'}
        if len(data) < LARGE:
            self._send_file(path, data, headers)
            return
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"'}
        # Under another name than the hub itself, as there: what the token is for ends here.
        location = f"{self.world.endpoint.replace('127.0.0.1', 'localhost')}/cdn/{name}//{path}"
        self._send(302, b"", {**headers, **linked, "Location": location})

    def _repository(self, name: str, revision: str, *, metadata: bool) -> Repository | None:
        """The repository if this request may see it; answers itself if not."""
        repository = self.world.repositories.get(name)
        authorized = repository is None or repository.token in (None, self.headers.get("Authorization", "").removeprefix("Bearer "))
        if repository is None or (not authorized and not repository.gated):
            self._refuse(401 if "Authorization" not in self.headers else 404, "RepoNotFound")
        elif not authorized and not metadata:  # what a gated repository is about, everybody may know
            self._refuse(401, "GatedRepo")
        elif revision not in ("main", repository.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            return repository
        return None

    def _send_file(self, path: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        world = self.world
        start = 0
        if asked := self.headers.get("Range"):
            world.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        status = 206 if asked else 200
        extra = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        content = data[::-1] if path in world.lied_about else data
        half = start + (len(data) - start) // 2
        self._send(status, b"", {**(headers or {}), **extra, "Accept-Ranges": "bytes", "Content-Length": str(len(data) - start)})
        if self.command == "HEAD":
            return
        self.wfile.write(content[start:half])
        if path in world.truncated:
            world.truncated.remove(path)
            self.close_connection = True
            return
        if path in world.held:
            self.wfile.flush()
            world.reached.set()
            world.released.wait(60)
        self.wfile.write(content[half:])
        world.downloads[path] = world.downloads.get(path, 0) + 1

    def _send_json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
