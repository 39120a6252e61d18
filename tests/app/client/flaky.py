"""The real API behind a network that fails now and then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.main import create_app
from app.settings import Settings
from tests.worlds.api import PART, Server, run_server


class RefuseFirst:
    """Answers every request with 503 the first time, and the links to parts too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._asked: Counter[tuple[str, str]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = (scope["method"], scope["path"])
            self._asked[request] += 1
            if self._asked[request] % 2:
                await PlainTextResponse("busy", 503, {"Retry-After": "0"})(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Cut(Exception):
    """The connection is gone."""


class CutBodies:
    """Breaks off the body of every download after `every` bytes."""

    def __init__(self, app: ASGIApp, every: int) -> None:
        self._app = app
        self._every = every

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/content"):
            await self._app(scope, receive, send)
            return
        left = self._every

        async def send_some(message: Message) -> None:
            nonlocal left
            body = message.get("body", b"")
            if len(body) > left:
                await send({**message, "body": body[:left], "more_body": True})
                raise Cut
            left -= len(body)
            await send(message)

        await self._app(scope, receive, send_some)


@contextmanager
def run_behind(middleware: Callable[..., ASGIApp], folder: Path, monkeypatch: pytest.MonkeyPatch, **options: int) -> Iterator[Server]:
    """The embedded API on a free port, every request of which goes through `middleware`."""
    settings = Settings(
        database_url=f"sqlite:///{folder / 'lustral.db'}",
        storage_url=f"file://{folder / 'objects'}",
        broker_url="memory://",
        secret_key="0123456789abcdef0123456789abcdef",
        part_size=PART,
    )

    def create_behind(settings: Settings) -> ASGIApp:
        app = create_app(settings)
        app.add_middleware(middleware, **options)
        return app

    monkeypatch.setattr("tests.worlds.api.create_app", create_behind)
    with run_server(settings) as server:
        yield server
