"""Is this process alive, and can it do its work?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import redis
import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from sqlalchemy import text

from app.runtime import Runtime
from app.schemas import Resource

router = APIRouter(tags=["operations"])
log = structlog.get_logger()

Outcome = Literal["ok", "failed"]
GOOD_FOR = 1.0
"""Seconds for which one look answers everybody who asks."""
PROBE_SECONDS = 3.0


class Health(Resource):
    status: Literal["ok"] = "ok"


class Readiness(Resource):
    status: Literal["ready", "not ready"]
    checks: dict[str, Outcome]


class ReadinessProbe:
    """Looks at most once a second however many ask, in threads of its own: what hangs occupies one, and no request's."""

    def __init__(self, runtime: Runtime, probes: dict[str, Callable[[Runtime], None]] | None = None) -> None:
        self._runtime = runtime
        self._probes = probes or {"database": _probe_database, "storage": _probe_storage, "broker": _probe_broker}
        self._threads = ThreadPoolExecutor(len(self._probes), thread_name_prefix="readiness")
        self._running: dict[str, Future[None]] = {}
        self._found: dict[str, Outcome] = {}
        self._found_at = float("-inf")
        self._looking = asyncio.Lock()

    async def look(self) -> dict[str, Outcome]:
        async with self._looking:
            if time.monotonic() - self._found_at >= GOOD_FOR:
                outcomes = await asyncio.gather(*(self._probe(name) for name in self._probes))
                self._found, self._found_at = dict(zip(self._probes, outcomes, strict=True)), time.monotonic()
            return self._found

    async def _probe(self, name: str) -> Outcome:
        running = self._running.get(name)
        if running is None or running.done():  # one that hangs is waited for again, not begun again
            running = self._running[name] = self._threads.submit(self._probes[name], self._runtime)
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(running)), PROBE_SECONDS)
        except Exception as error:  # noqa: BLE001  whatever it is, it is not ready
            log.warning("not_ready", check=name, error=f"{type(error).__name__}: {error}")
            return "failed"
        return "ok"

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@router.get("/healthz")
async def healthz() -> Health:
    """The process is alive. Asks nobody else, so that a broken database does not get the API restarted."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something it needs cannot be reached."}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Database, object store and broker, each really used within the last second. What went wrong is in the log, not in the answer."""
    probe: ReadinessProbe = request.app.state.readiness
    checks = await probe.look()
    ready = all(outcome == "ok" for outcome in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "not ready", checks=checks)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Prometheus text format: this process's requests, and what waits in the database."""
    backlog: CollectorRegistry = request.app.state.backlog
    return Response(generate_latest() + generate_latest(backlog), media_type=CONTENT_TYPE_LATEST)


def _probe_database(runtime: Runtime) -> None:
    with runtime.read() as session:
        session.execute(text("SELECT 1 FROM tenants WHERE 1 = 0"))


def _probe_storage(runtime: Runtime) -> None:
    runtime.store.probe()


def _probe_broker(runtime: Runtime) -> None:
    # Celery writes `redis+socket://` where the client of the same server wants `unix://`.
    url = runtime.settings.broker_url.replace("redis+socket://", "unix://", 1)
    with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as broker:
        broker.ping()
