"""What happens around every request: an id, a log line, metrics, and limits that come before any parsing."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import InvalidInput, NotFound, PayloadTooLarge, Problem, problem_of
from app.forwarded import IPNetwork, client_address
from app.ids import new_id
from app.metrics import REQUESTS, SECONDS
from app.outages import cause_of, is_outage
from app.tracing import span

log = structlog.get_logger()

_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Anybody may send any method, and each label of a metric is kept for ever.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestContext:
    """Gives each request an id (the client's own, where it sent a plain one), logs and counts it, and makes a problem of what nobody
    expected.

    trusted_proxies: those whose `X-Forwarded-For` is believed.
    """

    def __init__(self, app: ASGIApp, trusted_proxies: Sequence[IPNetwork] = ()) -> None:
        self._app = app
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id, client_address=client_address(scope, self._trusted_proxies))
        started = time.perf_counter()
        status: int | None = None
        begun_after = 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status, begun_after
            if message["type"] == "http.response.start":
                status = message["status"]
                begun_after = time.perf_counter() - started
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if is_outage(error):
                log.error("request.outage", method=scope["method"], path=scope["path"], error=cause_of(error))
            else:
                log.error("request.crashed", method=scope["method"], path=scope["path"], exc_info=error)
            if status is not None:
                raise  # half an answer is out: only breaking the connection tells the client
            await problem_of(error).response()(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            REQUESTS.labels(method, route, str(status)).inc()
            SECONDS.labels(method, route).observe(begun_after)
            seconds = round(time.perf_counter() - started, 4)
            log.info("request", method=scope["method"], path=scope["path"], status=status, seconds=seconds)


class RequestTrace:
    """Gives each request but the probes' a span, as part of the caller's own trace where it sent a `traceparent`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        method: str = scope["method"]
        with span(method, SpanKind.SERVER, dict(Headers(scope=scope)), **{"http.request.method": method}) as spanned:

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    spanned.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        spanned.set_status(StatusCode.ERROR)
                await send(message)

            await self._app(scope, receive, send_and_note)
            route = getattr(scope.get("route"), "path", "unmatched")
            spanned.update_name(f"{method} {route}")
            spanned.set_attribute("http.route", route)


class RequestLimits:
    """Refuses bodies that are too large for JSON, and NUL characters, which no database takes. Upload parts limit themselves."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"] == "PUT" and "/parts/" in scope["path"]):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, self._too_large().detail)
            return message

        await self._app(scope, counted, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        if "\0" in scope["path"]:
            return NotFound("There is nothing at this address.")
        if b"%00" in scope["query_string"]:
            return InvalidInput("The query must not contain the NUL character.")
        announced: Any = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"A request body may have {self._max_bytes} bytes. Files go through /v1/uploads.")
