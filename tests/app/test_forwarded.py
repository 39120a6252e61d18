"""Where a request came from is what our own proxies say, and nobody else."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest
import structlog
from starlette.types import Message, Receive, Scope, Send

from app.forwarded import client_address
from app.middleware import RequestContext

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


def scope(peer: str | None, *forwarded: str) -> Scope:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"type": "http", "method": "GET", "path": "/", "client": peer and (peer, 1), "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),  # a stranger may say what it likes
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # what the client made up stands to the left
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        (None, ["198.51.100.1"], None),
    ],
)
def test_the_client_is_the_first_that_is_no_proxy_of_ours(peer: str | None, forwarded: list[str], expected: str | None) -> None:
    assert client_address(scope(peer, *forwarded), PROXIES) == expected


def test_every_request_knows_its_client() -> None:
    seen = []

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(structlog.contextvars.get_contextvars()["client_address"])

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None: ...

    for trusted in ([], PROXIES):
        asyncio.run(RequestContext(endpoint, trusted)(scope("10.0.0.1", "198.51.100.1"), receive, send))
    assert seen == ["10.0.0.1", "198.51.100.1"]
