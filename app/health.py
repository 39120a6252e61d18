"""Is this process alive, and can it do its work?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import redis
import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from sqlalchemy import text

from app.runtime import Runtime, RuntimeDep
from app.schemas import Resource

router = APIRouter(tags=["operations"])
log = structlog.get_logger()


class Health(Resource):
    status: Literal["ok"] = "ok"


class Readiness(Resource):
    status: Literal["ready", "not ready"]
    checks: dict[str, Literal["ok", "failed"]]


@router.get("/healthz")
async def healthz() -> Health:
    """The process is alive. Asks nobody else, so that a broken database does not get the API restarted."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something it needs cannot be reached."}})
def readyz(response: Response, runtime: RuntimeDep) -> Readiness:
    """Database, object store and broker, each really used. What went wrong is in the log, not in the answer."""
    probes: dict[str, Callable[[Runtime], None]] = {"database": _probe_database, "storage": _probe_storage, "broker": _probe_broker}
    checks: dict[str, Literal["ok", "failed"]] = {}
    for name, probe in probes.items():
        try:
            probe(runtime)
            checks[name] = "ok"
        except Exception as error:  # noqa: BLE001  whatever it is, it is not ready
            log.warning("not_ready", check=name, error=str(error))
            checks[name] = "failed"
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
