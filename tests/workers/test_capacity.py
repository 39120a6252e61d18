"""A worker without room for a model leaves the step to another, says so, and spends none of its attempts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from gpu_jobs.config import JobParameters
from gpu_jobs.defense import subject
from gpu_jobs.memory import least_memory
from gpu_jobs.reporting import Cancelled
from tests.workers.conftest import Stored
from tests.workers.running import run_to_end
from tests.worlds.jobs import World
from workers import capacity
from workers.cache import ManifestFile
from workers.capacity import free_memory
from workers.context import Context
from workers.reaper import ring_for_ready_steps
from workers.runner import run

GIB = 1024**3


def a_job(world: World, *, files: Any = (), **fields: Any) -> str:
    """A scan of a model of eight billion weights, in one part."""
    return world.job(model_id=world.model(files=files, weights=8_000_000_000), shards=1, **fields)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set how much memory there is, bytes."""

    def has(memory: int) -> None:
        monkeypatch.setattr(capacity, "free_memory", lambda: memory)

    return has


class TestPassingBy:
    def test_leaves_the_step_ready_and_its_attempts_whole_and_tells_the_owner_once(
        self, context: Context, world: World, machine: Any
    ) -> None:
        machine(16 * GIB)
        job_id = a_job(world)
        [step] = world.steps(job_id, "scan")
        for _ in range(3):
            assert run(context, step.id)
        step = world.step(step.id)
        assert (step.status, step.attempt) == ("ready", 0)
        assert step.waiting_for is not None
        assert "needs 29.8 GiB of memory at the least" in step.waiting_for
        assert world.event_types(job_id).count("job.waiting") == 1
        machine(32 * GIB)
        run_to_end(context, world, job_id)
        assert world.get(job_id).status == "succeeded"
        assert world.steps(job_id, "scan")[0].waiting_for is None

    def test_rings_for_the_others_soon_however_often(self, context: Context, world: World, machine: Any) -> None:
        machine(0)
        [step] = world.steps(a_job(world), "scan")
        run(context, step.id)
        for _ in range(12):
            world.pass_time(ring_again_at=timedelta(seconds=8))
            assert ring_for_ready_steps(world.sessions) == 0
            world.pass_time(ring_again_at=timedelta(seconds=2))
            assert ring_for_ready_steps(world.sessions) == 1
            run(context, step.id)

    def test_is_over_once_a_worker_took_the_step(self, context: Context, world: World, machine: Any) -> None:
        machine(0)
        job_id = a_job(world)
        [step] = world.steps(job_id, "scan")
        run(context, step.id)
        machine(64 * GIB)

        def leave(*_: Any) -> dict[str, Any]:
            raise Cancelled("the worker is shutting down")

        run(context, step.id, leave)
        assert (world.step(step.id).status, world.step(step.id).waiting_for) == ("ready", None)
        machine(0)
        run(context, step.id)
        assert world.event_types(job_id).count("job.waiting") == 2

    def test_gives_back_what_this_process_kept_of_the_step_before(
        self, context: Context, world: World, machine: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subject, "_warm", {"model": "eight billion weights"})
        machine(0)
        [step] = world.steps(a_job(world), "scan")
        run(context, step.id)
        assert subject._warm == {}

    def test_is_no_matter_where_nothing_is_known(self, context: Context, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> int:
            raise RuntimeError("CUDA error: device-side assert triggered")

        monkeypatch.setattr(capacity, "free_memory", broken)
        [step] = world.steps(a_job(world), "scan")
        run(context, step.id, lambda *_: {})
        assert world.step(step.id).status == "succeeded"

    @pytest.mark.parametrize(("reanswered", "verdict", "attempt"), [(0, "clean", 1), (0, "backdoored", 0), (3, "clean", 0)])
    def test_is_no_matter_of_a_fine_tune_that_has_nothing_to_train(
        self, context: Context, world: World, machine: Any, reanswered: int, verdict: str, attempt: int
    ) -> None:
        job_id = world.job("defend", model_id=world.model(weights=8_000_000_000), shards=1)
        while (step := world.steps(job_id, "finetune")[0]).status != "ready":
            world.complete(world.claim_next(job_id), result={"reanswered": reanswered, "verdict": verdict})
        machine(64 * GIB)
        run(context, step.id, lambda *_: {})
        assert world.step(step.id).attempt == attempt

    def test_keeps_what_was_spared_before(self, context: Context, world: World, machine: Any) -> None:
        job_id = a_job(world, max_attempts=2)
        [step] = world.steps(job_id, "scan")

        def away(*_: Any) -> dict[str, Any]:
            raise ConnectionError

        machine(64 * GIB)
        run(context, step.id, away)
        world.pass_time(not_before=timedelta(hours=1))
        machine(0)
        run(context, step.id, away)
        assert (world.step(step.id).error or {})["spared"]["outages"] == 1

    def test_is_no_matter_of_steps_that_load_no_model(self, context: Context, world: World, machine: Any) -> None:
        job_id = a_job(world)
        machine(0)
        world.run_to(job_id, "publish")
        [publish] = world.steps(job_id, "publish")
        run(context, publish.id, lambda *_: {"result": {}, "artifacts": []})
        assert world.step(publish.id).attempt == 1

    def test_of_a_model_that_is_not_here_and_larger_than_the_disk_says_so(
        self, context: Context, world: World, stored: Stored, machine: Any
    ) -> None:
        machine(64 * GIB)
        file = stored("model.safetensors", b"weights")
        [step] = world.steps(a_job(world, files=[{**file, "bytes": context.cache.room() + GIB}]), "scan")
        run(context, step.id)
        assert "of disk at the least" in (world.step(step.id).waiting_for or "")
        context.cache.place(context.store, cast(ManifestFile, file), context.work / "placed")
        run(context, step.id, lambda *_: {})
        assert world.step(step.id).attempt == 1

    def test_of_a_cancelled_job_changes_nothing(self, context: Context, world: World, machine: Any) -> None:
        machine(0)
        job_id = a_job(world)
        [step] = world.steps(job_id, "scan")
        world.cancel(job_id)
        run(context, step.id)
        assert world.event_types(job_id).count("job.waiting") == 0


class TestFreeMemory:
    def test_is_what_the_container_leaves(self, tmp_path: Path) -> None:
        own = free_memory(tmp_path)
        (tmp_path / "memory.max").write_text("3000000")
        (tmp_path / "memory.current").write_text("2500000")
        (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300000\nactive_file 200000\n")
        ours = free_memory(tmp_path)
        assert ours < own
        (tmp_path / "memory.current").write_text("1500000")
        assert free_memory(tmp_path) - ours == pytest.approx(1_000_000, abs=50_000_000)  # this process grows meanwhile

    def test_is_the_machines_where_no_limit_is_set(self, tmp_path: Path) -> None:
        (tmp_path / "memory.max").write_text("max\n")
        assert free_memory(tmp_path) > 100_000_000


class TestLeastMemory:
    @pytest.mark.parametrize(
        ("kind", "accelerator", "parameters", "expected"),
        [
            ("scan", True, {}, 16),
            ("scan", False, {}, 32),
            ("finetune", True, {}, 128),
            ("finetune", True, {"finetune": {"trainable": ["lora"]}}, 32),
            ("finetune", True, {"finetune": {"trainable": ["projector"]}}, 32),
            ("finetune", False, {"finetune": {"trainable": ["language_model"]}}, 128),
            ("forget", True, {}, 0),
            ("merge", True, {}, 0),
            ("publish", False, {}, 0),
        ],
    )
    def test_of_eight_billion_weights(self, kind: Any, accelerator: bool, parameters: dict[str, Any], expected: int) -> None:
        found = least_memory(kind, JobParameters.model_validate(parameters), 8_000_000_000, {}, accelerator=accelerator)
        assert found == expected * 1_000_000_000
