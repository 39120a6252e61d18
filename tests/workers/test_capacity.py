"""A worker without room for a model leaves the step to another, says so, and spends none of its attempts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gpu_jobs.config import JobParameters
from gpu_jobs.memory import least_memory
from tests.workers.conftest import Stored
from tests.workers.running import run_to_end
from tests.worlds.jobs import World
from workers import capacity
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

    def test_rings_for_the_others_soon_and_then_ever_more_seldom(self, context: Context, world: World, machine: Any) -> None:
        machine(0)
        [step] = world.steps(a_job(world), "scan")
        run(context, step.id)
        for pause in (5, 10, 20, 40, 60, 60):
            world.pass_time(ring_again_at=timedelta(seconds=pause - 2))
            assert ring_for_ready_steps(world.sessions) == 0
            world.pass_time(ring_again_at=timedelta(seconds=2))
            assert ring_for_ready_steps(world.sessions) == 1
            run(context, step.id)

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

    def test_of_a_model_larger_than_the_cache_says_so(self, context: Context, world: World, stored: Stored, machine: Any) -> None:
        machine(64 * GIB)
        file = stored("model.safetensors", b"weights")
        job_id = a_job(world, files=[{**file, "bytes": context.settings.cache_bytes + 1}])
        [step] = world.steps(job_id, "scan")
        run(context, step.id)
        assert "of disk at the least" in (world.step(step.id).waiting_for or "")

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
        for name, content in (("memory.max", "3000000"), ("memory.current", "2500000"), ("memory.stat", "anon 1\ninactive_file 500000\n")):
            (tmp_path / name).write_text(content)
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
        found = least_memory(kind, JobParameters.model_validate(parameters), 8_000_000_000, accelerator=accelerator)
        assert found == expected * 1_000_000_000
