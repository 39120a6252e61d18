"""A webhook receiver as a user would write one: checks signatures with the independent `standardwebhooks` library."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

LARGEST_BODY = 64 * 1024


class Receiver:
    """Listens on a free port of 127.0.0.1. Messages whose signature is wrong are refused and not kept."""

    def __init__(self) -> None:
        self.secret: str | None = None
        """Set it once the address is registered."""
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/lustral"

    def wait_for(self, type: str, job_id: str, seconds: float) -> dict[str, Any]:
        """The first verified message of this type about this job.

        Raises:
            queue.Empty: none came in time.
        """
        while True:
            message = self._messages.get(timeout=seconds)
            if message["type"] == type and message["data"]["id"] == job_id:
                return message

    @contextmanager
    def listening(self) -> Iterator[Receiver]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _accept(self, body: bytes, headers: dict[str, str]) -> None:
        if self.secret is None:
            raise WebhookVerificationError("no secret yet")
        self._messages.put(Webhook(self.secret).verify(body, headers))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        accept = self._accept

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                status = 204
                if length > LARGEST_BODY:
                    status = 413
                else:
                    try:
                        accept(self.rfile.read(length), {name.lower(): value for name, value in self.headers.items()})
                    except (WebhookVerificationError, json.JSONDecodeError):
                        status = 401
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: the demo's own lines are enough."""

        return Handler
