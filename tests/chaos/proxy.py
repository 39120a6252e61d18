"""A proxy before an S3 that can be made to fail, dawdle, and break off."""

from __future__ import annotations

import http.client
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

S3Fault = Literal["unavailable", "slow", "truncated", "refused"]

SLOW_SECONDS = 1.5


@dataclass
class Proxy:
    """`plan` holds what happens to the next requests, one entry each; without one a request passes.

    unavailable: answered 503. slow: passed on after a while. truncated: the answer breaks off in the middle, an upload before the
    store saw it whole. refused: the connection is closed at once. suffered: what has happened.
    """

    endpoint: str = ""
    plan: deque[S3Fault] = field(default_factory=deque)
    suffered: list[S3Fault] = field(default_factory=list)

    def next_fault(self) -> S3Fault | None:
        try:
            fault = self.plan.popleft()
        except IndexError:
            return None
        self.suffered.append(fault)
        return fault


@contextmanager
def run_proxy(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy()
    target = urlsplit(upstream).netloc

    class Handler(_Handler):
        world, store = proxy, target

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    world: Proxy
    store: str
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        fault = self.world.next_fault()
        if fault == "refused" or (fault == "truncated" and self.command in ("PUT", "POST")):
            self.close_connection = True
            return
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        body = self._body()
        if fault == "unavailable":
            self._answer(503, {"Content-Type": "application/xml"}, b"<Error><Code>ServiceUnavailable</Code></Error>")
            return
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        self._forward(body, truncate=fault == "truncated")

    def handle_expect_100(self) -> bool:
        return True  # answered once we know what becomes of the request

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _forward(self, body: bytes, *, truncate: bool) -> None:
        # The signature covers the Host header, so it goes on as it came.
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("transfer-encoding", "expect", "connection")}
        headers["Content-Length"] = str(len(body))
        connection = http.client.HTTPConnection(self.store, timeout=60)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            connection.close()
        passed = {name: value for name, value in answer.getheaders() if name.lower() not in ("transfer-encoding", "connection")}
        self._answer(answer.status, {"Content-Length": str(len(content)), **passed}, content[: len(content) // 2] if truncate else content)
        self.close_connection = self.close_connection or truncate

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


for _method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
    setattr(_Handler, f"do_{_method}", _Handler._pass)
