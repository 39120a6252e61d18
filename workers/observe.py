"""What one attempt at a step leaves for those who watch: its log lines, its span, and its numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.leases import Lease
from app.jobs.tables import StepRow
from app.tracing import Carrier, current_carrier, span, travelling
from workers import metrics

Outcome = Literal["succeeded", "failed", "postponed", "refused", "cancelled", "handed_back", "lease_lost"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a step is, and where it came from: `trace` as `StepRow` keeps it."""

    kind: str
    trace: Mapping[str, Any]


@dataclass(slots=True)
class Attempt:
    """To be told how it ended."""

    outcome: Outcome = "failed"


def origin_of(session: Session, lease: Lease) -> Origin:
    """Read in the transaction of the claim, which has the row already."""
    step = session.get_one(StepRow, lease.step_id)
    return Origin(step.kind, step.trace or {})


@contextmanager
def observed(sessions: sessionmaker[Session], lease: Lease, origin: Origin, message: Carrier) -> Iterator[Attempt]:
    """Watch one attempt from its claim on.

    message: what the bell carried; its trace is the parent, because it leads through the relay that rang.
    """
    metrics.ATTEMPTS.labels(origin.kind).inc()
    attempt, begun = Attempt(), time.monotonic()
    known = {"job_id": lease.job_id, "step_id": lease.step_id, "attempt": lease.attempt}
    attributes = {f"lustral.{name}": value for name, value in known.items()}
    carrier = travelling({**origin.trace, **message})
    with (
        _request_id(carrier),
        structlog.contextvars.bound_contextvars(**known),
        span(f"step {origin.kind}", SpanKind.CONSUMER, carrier, link=origin.trace.get("last_attempt"), **attributes) as spanned,
    ):
        _leave_for_the_next(sessions, lease, origin)
        try:
            yield attempt
        finally:
            metrics.observe_gpu()
            metrics.STEP_SECONDS.labels(origin.kind, attempt.outcome).observe(time.monotonic() - begun)
            if attempt.outcome == "lease_lost":
                metrics.LEASES_LOST.labels(origin.kind).inc()
            spanned.set_attribute("lustral.outcome", attempt.outcome)
            if attempt.outcome in ("failed", "lease_lost"):
                spanned.set_status(StatusCode.ERROR)


@contextmanager
def observed_message(topic: str, id: str, message: Carrier) -> Iterator[None]:
    """Watch what a bell other than a step's makes a worker do."""
    with _request_id(message), span(topic, SpanKind.CONSUMER, message, **{"lustral.id": id}):
        yield


@contextmanager
def _request_id(carrier: Carrier) -> Iterator[None]:
    request_id = carrier.get("request_id")
    with structlog.contextvars.bound_contextvars(**({"request_id": request_id} if request_id else {})):
        yield


def _leave_for_the_next(sessions: sessionmaker[Session], lease: Lease, origin: Origin) -> None:
    """Name this attempt in the row, so that the next one can refer to it. Worth nothing where nobody records traces."""
    traceparent = current_carrier().get("traceparent")
    if traceparent is None:
        return
    trace = {**origin.trace, "last_attempt": traceparent}
    with suppress(SQLAlchemyError), sessions.begin() as session:
        session.execute(update(StepRow).where(StepRow.id == lease.step_id, StepRow.lease_token == lease.token).values(trace=trace))
