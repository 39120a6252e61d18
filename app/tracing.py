"""Traces (OpenTelemetry) and request ids: how a request stays recognisable in the relay and the workers that act on it.

What travels is a small dictionary, `Carrier`: the id of the request and, where traces are recorded, a W3C `traceparent`. It is
kept in the outbox and in steps, so that it outlives every process on the way. Spans are exported only where
`OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) is set and the extra `tracing` is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Carrier = dict[str, str]

_PROPAGATOR = TraceContextTextMapPropagator()
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRAVELS = ("request_id", "traceparent", "tracestate")


def configure_tracing(service: str) -> None:
    """Export this process's spans, as `service` unless `OTEL_SERVICE_NAME` says otherwise. Call it after a fork: it starts a thread.

    Raises:
        RuntimeError: an address to export to is set, but the extra `tracing` is not installed.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise RuntimeError(f"{_ENDPOINTS[0]} is set: install the extra `tracing`, or unset it. {error}") from error
    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush_traces() -> None:
    """Send what is still to be exported. For a process that ends without Python's own end, as a worker's does."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shutdown is not None:
        shutdown()


@contextmanager
def span(
    name: str, kind: SpanKind, carrier: Mapping[str, Any] | None = None, *, link: str | None = None, **attributes: str | int | None
) -> Iterator[Span]:
    """A span that is current inside. Attributes that are None are left out.

    carrier: the span's parent; None: whatever is current.
    link: the `traceparent` of an earlier attempt at the same work.
    """
    links = [Link(found)] if link and (found := _span_context({"traceparent": link})) else []
    present = {name: value for name, value in attributes.items() if value is not None}
    parent = None if carrier is None else _context(carrier)
    with trace.get_tracer("lustral").start_as_current_span(name, parent, kind, attributes=present, links=links) as begun:
        yield begun


def current_carrier() -> Carrier:
    """What to keep with work that is decided now, so that whoever does it can say where it came from."""
    carrier: Carrier = {}
    _PROPAGATOR.inject(carrier)
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return {**carrier, "request_id": request_id} if request_id else carrier


def travelling(values: Mapping[str, Any]) -> Carrier:
    """The part of a message or row that is a carrier."""
    return {name: str(values[name]) for name in _TRAVELS if values.get(name)}


def add_trace_ids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For structlog: the trace that a log line belongs to, where there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"], event["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    return event


def _context(carrier: Mapping[str, Any]) -> Context:
    # From an empty context: a carrier without a trace begins a new one, whatever is current here.
    return _PROPAGATOR.extract(travelling(carrier), Context())


def _span_context(carrier: Mapping[str, Any]) -> trace.SpanContext | None:
    found = trace.get_current_span(_context(carrier)).get_span_context()
    return found if found.is_valid else None
