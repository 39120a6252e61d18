"""A receiver of webhooks that checks every signature, keeps every message, and can be away."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from standardwebhooks import Webhook, WebhookVerificationError

Absence = Literal["error", "refused", "unheard"]


class Receiver:
    """`plan` holds what happens to the next messages: answered 500, cut off, or taken without an answer. received: bodies by id."""

    def __init__(self) -> None:
        self.url = ""
        self.secret: str | None = None
        self.plan: deque[Absence] = deque()
        self.received: dict[str, list[bytes]] = defaultdict(list)
        self.forged: list[bytes] = []

    def take(self, headers: dict[str, str], body: bytes) -> int | None:
        """The status to answer with; None: close the connection."""
        absence = self.plan.popleft() if self.plan else None
        if absence == "error":
            return 500
        if absence == "refused":
            return None
        try:
            Webhook(self.secret or "").verify(body, headers)
        except WebhookVerificationError:
            self.forged.append(body)
            return 401
        self.received[headers["webhook-id"]].append(body)
        return None if absence == "unheard" else 204


@contextmanager
def run_receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
