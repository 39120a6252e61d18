"""The HTTP API, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import Lifespan

from app import health, openapi
from app.artifacts.endpoints import router as artifacts
from app.audit.endpoints import router as audit
from app.auth.endpoints import router as keys
from app.backlog import Backlog
from app.credentials.endpoints import router as credentials
from app.datasets.endpoints import router as datasets
from app.errors import register_error_handlers
from app.jobs.endpoints import router as jobs
from app.jobs.stream import EventStreams
from app.logs import configure_logs
from app.middleware import RequestContext, RequestLimits, RequestTrace
from app.models.endpoints import router as models
from app.provenance.endpoints import router as provenance
from app.quotas.endpoints import router as usage
from app.ratelimit import RateLimiter
from app.runtime import Runtime
from app.settings import Settings, load_settings
from app.tracing import configure_tracing
from app.uploads.endpoints import router as uploads
from app.webhooks.endpoints import router as webhooks


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application, also for `uvicorn --factory app.main:create_app`. The schema must be there: `app.migrate.upgrade`.

    settings: null: from the environment, and logs are set up for a process of our own.
    """
    if settings is None:
        settings = load_settings()
        configure_logs(settings.log_level)
        configure_tracing("lustral-api")
    runtime = Runtime.open(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.readiness.close()
        runtime.close()

    app = create_routes(lifespan)
    app.state.runtime = runtime
    app.state.backlog = Backlog(runtime.read).registry()
    app.state.readiness = health.ReadinessProbe(runtime)
    app.state.event_streams = EventStreams(runtime.read, settings.max_event_streams)
    app.state.rate_limiter = RateLimiter(settings.requests_per_second, settings.request_burst)
    register_error_handlers(app)
    app.add_middleware(RequestLimits, max_bytes=settings.max_request_bytes)
    app.add_middleware(RequestContext, trusted_proxies=settings.trusted_proxy_networks)
    app.add_middleware(RequestTrace)
    return app


def create_routes(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The addresses and what is published of them, with nothing behind them yet."""
    app = FastAPI(
        title="Lustral",
        version=openapi.version(),
        summary="Defence as a service for multimodal diffusion language models.",
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        # FastAPI's own spans name the whole query, and the signature in the link to a part is a secret: `RequestTrace` makes ours.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        generate_unique_id_function=lambda route: route.name,
    )
    for router in (uploads, models, datasets, jobs, artifacts, provenance, webhooks, credentials, keys, usage, audit):
        app.include_router(router, responses=openapi.COMMON_RESPONSES)
    app.include_router(health.router)
    openapi.describe_problems(app)
    return app
