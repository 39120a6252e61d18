"""The log of each attempt is an artifact of its job: there even where the job fails, and free of what is nobody's business."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.artifacts.tables import LOG, ArtifactRow
from app.jobs.tables import StepAttemptRow
from gpu_jobs.config import StepKind
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Cancelled, Reporter
from gpu_jobs.steps import StepInputs
from tests.workers.running import run_to_end, write_something
from tests.worlds.jobs import World
from workers import journal
from workers.context import Context
from workers.runner import run
from workers.sweeper import sweep_job

Lines = list[dict[str, Any]]


def logs(context: Context, world: World, job_id: str) -> dict[str, Lines]:
    """The lines of each log of the job, by the artifact's name, the first attempt's first."""
    with world.sessions() as session:
        rows = session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job_id, ArtifactRow.kind == LOG).order_by(ArtifactRow.id))
        return {row.name: [json.loads(line) for line in b"".join(context.store.open_range(row.key)).splitlines()] for row in rows}


def names(lines: Lines) -> list[str]:
    return [line["event"] for line in lines]


class TestLogs:
    def test_tell_what_each_step_did_and_when(self, context: Context, world: World) -> None:
        def work(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            reporter.metrics(loss=0.5)
            reporter.checkpoint()
            reporter.progress(4, 4, "samples")
            return write_something(kind, inputs, reporter)

        job_id = world.job(shards=2)
        run_to_end(context, world, job_id, work)
        found = logs(context, world, job_id)
        assert [*found] == [f"logs/{step}.attempt-1.jsonl" for step in ("scan-0", "scan-1", "verdict", "publish")]
        lines = found["logs/scan-1.attempt-1.jsonl"]
        assert names(lines) == ["begun", "inputs laid out", "metrics", "checkpoint saved", "progress", "finished"]
        assert (lines[0]["step"], lines[0]["shard"], lines[0]["shards"]) == ("scan", 1, 2)
        assert (lines[2]["loss"], lines[4]["done"], lines[5]["files"]) == (0.5, 4, 1)
        assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)

    def test_are_named_by_the_attempt_and_swept_with_nothing(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        run_to_end(context, world, job_id)
        sweep_job(context, job_id)
        with world.sessions() as session:
            named = {*session.scalars(select(StepAttemptRow.log_artifact_id))}
            assert named == {*session.scalars(select(ArtifactRow.id).where(ArtifactRow.kind == LOG))}
        assert len(logs(context, world, job_id)) == 3

    def test_of_attempts_that_failed_say_to_the_owner_what_the_job_says(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=2)
        [step] = world.steps(job_id, "scan")

        def explode(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            raise RuntimeError(f"cannot read {inputs.outputs}: [SQL: SELECT sealed]")

        run(context, step.id, explode)
        world.pass_time(not_before=timedelta(hours=1))
        run(context, step.id, explode)
        found = logs(context, world, job_id)
        assert [*found] == ["logs/scan.attempt-1.jsonl", "logs/scan.attempt-2.jsonl"]
        error = world.get(job_id).error
        assert error is not None
        last = found["logs/scan.attempt-2.jsonl"][-1]
        assert last["event"] == "failed"
        assert last["error"]["detail"] in error["detail"]
        assert "SELECT" not in json.dumps(found)
        assert str(context.work) not in json.dumps(found)

    @pytest.mark.parametrize(("error", "end"), [(InputError("no model in there"), "refused"), (Cancelled("stop"), "handed back")])
    def test_tell_how_an_attempt_ended(self, context: Context, world: World, error: Exception, end: str) -> None:
        job_id = world.job(shards=1)

        def stop(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            raise error

        run(context, world.steps(job_id, "scan")[0].id, stop)
        [lines] = logs(context, world, job_id).values()
        assert lines[-1]["event"] == end

    def test_cost_no_step_its_result(self, context: Context, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*_: Any) -> None:
            raise ConnectionError

        monkeypatch.setattr(type(context.store), "put_bytes", away)
        job_id = world.job(shards=1)
        run_to_end(context, world, job_id)
        assert world.get(job_id).status == "succeeded"
        assert logs(context, world, job_id) == {}

    def test_keep_nobody_waiting_for_a_store_that_hangs(self, context: Context, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        hanging = threading.Event()
        monkeypatch.setattr(type(context.store), "put_bytes", lambda *_: hanging.wait(30))
        monkeypatch.setattr(journal, "STORE_SECONDS", 0.1)
        job_id = world.job(shards=1)
        begun = time.monotonic()
        run_to_end(context, world, job_id)
        hanging.set()
        assert time.monotonic() - begun < 10
        assert (world.get(job_id).status, logs(context, world, job_id)) == ("succeeded", {})

    def test_are_json_where_a_training_diverges(self, context: Context, world: World) -> None:
        def diverge(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            reporter.metrics(loss=float("nan"))
            return {}

        job_id = world.job(shards=1)
        run(context, world.steps(job_id, "scan")[0].id, diverge)
        [lines] = logs(context, world, job_id).values()
        assert next(line for line in lines if line["event"] == "metrics")["loss"] is None
        assert [event.data["values"] for event in world.events(job_id) if event.type == "job.metrics"] == [{"loss": None}]

    def test_end_somewhere(self, context: Context, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal, "LINES_AT_MOST", 3)

        def chatter(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            for done in range(10):
                reporter.progress(10 + done, 10, "samples")
            return {}

        job_id = world.job(shards=1)
        run(context, world.steps(job_id, "scan")[0].id, chatter)
        [lines] = logs(context, world, job_id).values()
        assert names(lines) == ["begun", "inputs laid out", "progress", "finished"]
