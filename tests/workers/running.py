"""Jobs whose steps do next to nothing, and how a test runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu_jobs.config import StepKind
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs
from tests.worlds.jobs import World
from workers.context import Context
from workers.runner import run

Step = Callable[[StepKind, StepInputs, Reporter], dict[str, Any]]


def write_something(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Every step leaves a file that says which one it was; the last one publishes them."""
    (inputs.outputs / f"{kind}.txt").write_text(f"{kind} {inputs.shard}")
    if kind != "publish":
        return {"kind": kind, "shard": inputs.shard}
    from gpu_jobs.report.artifacts import describe_artifact

    folder = inputs.previous["verdict"][0]
    artifacts = [describe_artifact("verdict", folder, folder / "verdict.txt")]
    artifacts.append(describe_artifact("publish", inputs.outputs, inputs.outputs / "publish.txt"))
    result = {"verdict": "clean", "suspects": {"count": 0, "artifact_id": "verdict.txt"}, "adapter_artifact_id": None}
    return {"result": result, "artifacts": [artifact.to_json() for artifact in artifacts]}


def run_to_end(context: Context, world: World, job_id: str, step: Step = write_something) -> None:
    while world.get(job_id).finished_at is None:
        ready = [each.id for each in world.steps(job_id) if each.status == "ready"]
        assert ready, f"the job hangs: {world.statuses(job_id)}"
        for step_id in ready:
            run(context, step_id, step)
