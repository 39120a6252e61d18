"""Steps that end for no fault of their own: outages, cancelled jobs, lost leases, workers that must go."""

from __future__ import annotations

import errno
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.jobs.leases import complete_step
from app.jobs.tables import StepRow
from app.settings import Settings
from gpu_jobs.config import StepKind
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs
from tests.workers.running import write_something
from tests.worlds.jobs import World
from workers import heartbeat, interruption, runner, shutdown
from workers.context import Context
from workers.reaper import reap
from workers.runner import run

AWAY = OperationalError("UPDATE", {}, Exception("server closed the connection"))


class TestOutage:
    """Of what every step needs. It must cost no attempt: the job below has only one."""

    @pytest.fixture
    def step_id(self, world: World) -> str:
        return world.steps(world.job(shards=1, max_attempts=1), "scan")[0].id

    @pytest.fixture(autouse=True)
    def _quietly(self) -> Iterator[None]:
        with capture_logs():  # drawing a traceback takes longer than all else here
            yield

    def test_while_a_step_runs_is_not_held_against_it(self, context: Context, world: World, step_id: str) -> None:
        def fail(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            raise AWAY

        for _ in range(8):
            run(context, step_id, fail)
            world.pass_time(not_before=timedelta(minutes=1))
        run(context, step_id, write_something)
        step = world.step(step_id)
        assert (step.status, step.attempt) == ("succeeded", 9)

    def test_that_never_ends_is_given_up_in_the_end(self, context: Context, world: World, step_id: str) -> None:
        def fail(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            raise AWAY

        run(context, step_id, fail)
        with world.sessions.begin() as session:
            step = session.get_one(StepRow, step_id)
            assert step.error is not None
            begun = datetime.fromisoformat(step.error["spared"]["since"]) - timedelta(minutes=31)
            step.error = {**step.error, "spared": {**step.error["spared"], "since": begun.isoformat()}}
        world.pass_time(not_before=timedelta(minutes=1))
        run(context, step_id, fail)
        assert world.step(step_id).status == "failed"

    def test_at_the_end_is_waited_for(self, context: Context, world: World, step_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
        put_file = context.store.put_file
        failures = [OSError(errno.ENOSPC, "No space left on device"), ConnectionResetError(), AWAY]

        def put(key: str, path: Path) -> None:
            if len(failures) > 1:
                raise failures.pop(0)
            put_file(key, path)

        def complete(*arguments: Any, **options: Any) -> bool:
            if failures:
                raise failures.pop()
            return complete_step(*arguments, **options)

        monkeypatch.setattr(context.store, "put_file", put)
        monkeypatch.setattr(runner, "complete_step", complete)
        run(context, step_id, write_something)
        step = world.step(step_id)
        assert (step.status, step.attempt, failures) == ("succeeded", 1, [])

    def test_of_the_disk_is_told_from_what_libraries_make_of_it(
        self, context: Context, world: World, step_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def save(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            usage = shutil.disk_usage(inputs.outputs)._replace(free=0)
            monkeypatch.setattr("workers.context.shutil.disk_usage", lambda _: usage)
            raise RuntimeError("PytorchStreamWriter failed writing file data/0")

        run(context, step_id, save)
        step = world.step(step_id)
        assert step.status == "ready"
        assert step.error is not None
        assert step.error["type"] == "urn:lustral:problem:disk-full"


class TestStopping:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "NUDGE_EVERY", 0.05)
        monkeypatch.setattr(interruption, "TICK_SECONDS", 0.05)

    def test_a_pattern_that_takes_for_ever_starves_no_heartbeat_and_ends_with_its_job(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id
        renewed: list[bool] = []

        def match(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            claimed = world.step(step_id).lease_expires_at

            def cancel_once_renewed() -> None:
                while world.step(step_id).lease_expires_at == claimed:
                    threading.Event().wait(0.01)
                renewed.append(True)
                world.cancel(job_id)

            threading.Thread(target=cancel_once_renewed).start()
            re.search(r"(a+)+$", "a" * 28 + "b")  # half a minute, in which no other thread has a turn
            raise AssertionError("nobody stopped the pattern")

        run(context, step_id, match)
        assert renewed == [True]
        assert world.get(job_id).status == "cancelled"

    def test_a_step_that_waits_in_vain_is_cut_short(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        waited_out: list[bool] = []

        def wait(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            world.cancel(job_id)
            try:
                threading.Event().wait(30)
            except Exception:  # noqa: BLE001  (as code does that sets bad samples aside)
                threading.Event().wait(30)
            waited_out.append(True)
            return {}

        assert run(context, world.steps(job_id, "scan")[0].id, wait) is False, "who knows what was half done"
        assert world.get(job_id).status == "cancelled"
        assert waited_out == []

    def test_a_cancelled_job_is_over_within_five_seconds_though_the_store_hangs(
        self, context: Context, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        every = Settings.model_fields["heartbeat_seconds"].default
        as_operators_have_it = context.settings.model_copy(update={"heartbeat_seconds": every})
        context = replace(context, runtime=replace(context.runtime, settings=as_operators_have_it))
        job_id = world.job(shards=1)
        hanging = threading.Event()
        begun: list[float] = []

        def wait(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            monkeypatch.setattr(type(context.store), "put_bytes", lambda *_: hanging.wait(30))
            hanging.wait(every + 0.1)  # the lease has just been renewed
            begun.append(time.monotonic())
            world.cancel(job_id)
            hanging.wait(30)
            return {}

        run(context, world.steps(job_id, "scan")[0].id, wait)
        hanging.set()
        assert time.monotonic() - begun[0] < 5
        assert world.get(job_id).status == "cancelled"

    def test_a_cancelled_job_stops_its_step_in_mid_work(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)

        def work_until_stopped(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            world.cancel(job_id)
            return _report_until_cancelled(reporter)

        run(context, world.steps(job_id, "scan")[0].id, work_until_stopped)
        assert world.get(job_id).status == "cancelled"

    def test_a_lost_lease_stops_the_step_and_nothing_it_did_counts(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id

        def lose_the_lease(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            world.pass_time(lease_expires_at=timedelta(hours=1))
            # The heartbeat may renew in between; once another worker has the step, nothing brings it back.
            while not reap(world.sessions):
                world.pass_time(lease_expires_at=timedelta(hours=1))
            world.claimed(step_id, worker="worker-2")
            return _report_until_cancelled(reporter)

        run(context, step_id, lose_the_lease)
        step = world.step(step_id)
        assert (step.status, step.worker, step.attempt, step.outputs) == ("running", "worker-2", 2, None)

    def test_a_worker_that_must_go_saves_and_hands_back(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=1)
        step_id = world.steps(job_id, "scan")[0].id

        def first_half(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            (inputs.checkpoint / "answers.jsonl").write_text("half")
            shutdown.request()
            reporter.checkpoint()
            raise AssertionError("a worker that must go does not go on")

        def second_half(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            return {"resumed": (inputs.checkpoint / "answers.jsonl").read_text()}

        run(context, step_id, first_half)
        assert world.step(step_id).status == "ready"
        shutdown.forget()
        run(context, step_id, second_half)
        assert world.step(step_id).result == {"resumed": "half"}


def _report_until_cancelled(reporter: Reporter) -> dict[str, Any]:
    never = threading.Event()
    for done in range(10_000):
        reporter.progress(done, 10_000, "samples")
        never.wait(0.005)
    raise AssertionError("nobody stopped the step")
