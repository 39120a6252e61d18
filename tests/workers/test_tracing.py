"""One trace leads from a request through the relay to every attempt at what was asked for, and the log lines tell which."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
import structlog
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.auth.service import bootstrap
from app.logs import configure_logs
from app.main import create_app
from app.tracing import travelling
from gpu_jobs.errors import InputError
from tests.worlds.jobs import World
from workers.broker import make_celery
from workers.context import Context
from workers.reaper import ring_for_ready_steps
from workers.relay import relay_batch
from workers.runner import run

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """OpenTelemetry has one provider in each process, and it stays."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


@pytest.fixture
def client(context: Context) -> Iterator[TestClient]:
    with context.sessions.begin() as session:
        key = bootstrap(session, context.runtime.signer).key
    with TestClient(create_app(context.settings), headers={"Authorization": f"Bearer {key}"}) as made:
        yield made


class Bells:
    """Relay and worker in one: what the outbox holds goes through a real broker and is done at once."""

    def __init__(self, context: Context, broker_url: str) -> None:
        self._context = context
        self._celery = make_celery(broker_url, 60)
        self._broker = redis.Redis.from_url(broker_url)

    def answer(self, step: Any) -> None:
        relay_batch(self._context.sessions, self._celery)
        while (found := self._broker.rpop("gpu")) is not None:
            headers = json.loads(found)["headers"]  # type: ignore[arg-type]
            run(self._context, headers["argsrepr"].strip("[]'"), step, message=travelling(headers))

    def close(self) -> None:
        self._broker.close()


@pytest.fixture
def bells(context: Context, broker_url: str) -> Iterator[Bells]:
    made = Bells(context, broker_url)
    yield made
    made.close()


def order(client: TestClient, world: World, **headers: str) -> str:
    body = {"kind": "evaluate", "model_id": world.model(), "dataset_id": world.dataset()}
    answer = client.post("/v1/jobs", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def succeed(*_: Any) -> dict[str, Any]:
    return {}


class TestTraces:
    def test_lead_from_the_request_to_the_step(self, client: TestClient, world: World, bells: Bells, spans: InMemorySpanExporter) -> None:
        job_id = order(client, world, traceparent=CALLER)
        bells.answer(succeed)
        [request], [publish], [step] = named(spans, "POST /v1/jobs"), named(spans, "publish run_step"), named(spans, "step evaluate")
        assert request.parent is not None
        assert f"{request.parent.trace_id:032x}" == CALLER.split("-")[1]
        assert [span.parent and span.parent.span_id for span in (publish, step)] == [
            span.context and span.context.span_id for span in (request, publish)
        ]
        assert [span.kind for span in (request, publish, step)] == [SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER]
        assert request.attributes is not None
        assert step.attributes is not None
        assert request.attributes["http.response.status_code"] == 201
        assert (step.attributes["lustral.job_id"], step.attributes["lustral.outcome"]) == (job_id, "succeeded")

    def test_reach_the_steps_of_later_stages(
        self, client: TestClient, context: Context, world: World, bells: Bells, spans: InMemorySpanExporter
    ) -> None:
        job_id = order(client, world)
        bells.answer(succeed)
        [publish] = [step for step in world.steps(job_id) if step.kind == "publish"]
        assert publish.status == "ready"
        [request] = named(spans, "POST /v1/jobs")
        assert request.context is not None
        assert publish.trace is not None
        assert publish.trace["traceparent"].split("-")[1] == f"{request.context.trace_id:032x}"

    def test_link_each_attempt_to_the_one_before(
        self, client: TestClient, context: Context, world: World, bells: Bells, spans: InMemorySpanExporter
    ) -> None:
        def fail(*_: Any) -> dict[str, Any]:
            raise RuntimeError("out of luck")

        order(client, world)
        bells.answer(fail)
        world.pass_time(not_before=timedelta(minutes=1), ring_again_at=timedelta(minutes=1))
        ring_for_ready_steps(context.sessions)  # in the relay, where nobody's request is current
        bells.answer(succeed)
        first, second = named(spans, "step evaluate")
        assert first.context is not None
        assert second.context is not None
        assert first.status.status_code is StatusCode.ERROR
        assert second.context.trace_id == first.context.trace_id
        assert [link.context.span_id for link in second.links] == [first.context.span_id]
        assert first.links == ()

    def test_leave_the_probes_out(self, client: TestClient, spans: InMemorySpanExporter) -> None:
        client.get("/healthz")
        assert spans.get_finished_spans() == ()


class TestLogs:
    @pytest.fixture(autouse=True)
    def _restored(self) -> Iterator[None]:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        yield
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()

    def test_of_a_worker_name_request_job_step_and_trace(
        self, client: TestClient, world: World, bells: Bells, spans: InMemorySpanExporter, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure_logs()
        job_id = order(client, world, **{"X-Request-Id": "ticket-4711"})
        capsys.readouterr()

        def refuse(*_: Any) -> dict[str, Any]:
            raise InputError("no such column")

        bells.answer(refuse)
        [line] = [line for line in map(json.loads, capsys.readouterr().err.splitlines()) if line["event"] == "step.input_refused"]
        [request] = named(spans, "POST /v1/jobs")
        assert request.context is not None
        assert (line["request_id"], line["job_id"], line["attempt"]) == ("ticket-4711", job_id, 1)
        assert line["step_id"] == world.steps(job_id, "evaluate")[0].id
        assert line["trace_id"] == f"{request.context.trace_id:032x}"
        assert "request_id" not in structlog.contextvars.get_contextvars()
