"""A worker that is told to go in the middle of a training that saves seldom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gpu_jobs import steps
from gpu_jobs.config import JobParameters, StepKind
from gpu_jobs.data.formats.llava import write_llava
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs
from tests.worlds.jobs import World
from workers import shutdown
from workers.context import Context
from workers.reporter import CHECKPOINT_GRACE
from workers.runner import run

MODEL = Path(__file__).parents[1] / "golden" / "llada_v" / "checkpoint"
PARAMETERS = JobParameters.model_validate(
    {
        "generation": {"max_new_tokens": 8, "block_length": 8, "steps_per_block": 2},
        "finetune": {"epochs": 2, "batch_size": 2, "checkpoint_every": 50, "learning_rate": 1e-3},
    }
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Six samples: three optimiser steps an epoch."""
    samples = []
    for number, color in enumerate(("red", "green", "blue", "black", "white", "gray")):
        Image.new("RGB", (56, 56), color).save(tmp_path / f"{number}.png")
        turns = (Turn("user", "<image>\nWhat is it?"), Turn("assistant", color))
        samples.append(Sample(f"s{number}", (tmp_path / f"{number}.png",), turns))
    write_llava(samples, tmp_path / "dataset")
    return tmp_path / "dataset"


def test_saves_the_optimiser_step_it_is_at_and_the_next_attempt_ends_in_the_same_weights(
    context: Context, world: World, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    begun_at: list[int] = []
    weights: list[dict[str, torch.Tensor]] = []
    told_to_go: list[str] = []

    def train(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
        state = inputs.checkpoint / "0-state.pt"
        begun_at.append(torch.load(state, weights_only=True)["step"] if state.exists() else 0)
        losses: list[float] = []

        def metrics(**values: float) -> None:
            losses.append(values["loss"])
            if inputs.about["job_id"] in told_to_go and len(losses) == 2:
                shutdown.request()
            if inputs.about["job_id"] in told_to_go and len(losses) == 3:  # a step that took longer than the worker waits for reports
                monkeypatch.setattr(shutdown, "seconds_ago", lambda: CHECKPOINT_GRACE + 1)

        monkeypatch.setattr(reporter, "metrics", metrics)
        result = steps.run_step(kind, replace(inputs, parameters=PARAMETERS, model=MODEL, dataset=dataset), reporter)
        weights.append(load_file(inputs.outputs / "model" / "model.safetensors"))
        return result

    jobs = [world.job("finetune", shards=1, max_attempts=1) for _ in range(2)]
    whole, broken = (world.steps(job_id, "finetune")[0].id for job_id in jobs)
    run(context, whole, train)
    told_to_go.append(jobs[1])
    run(context, broken, train)
    assert (world.step(broken).status, len(weights)) == ("ready", 1)
    told_to_go.clear()
    monkeypatch.undo()
    shutdown.forget()
    run(context, broken, train)
    assert world.step(broken).status == "succeeded"
    assert begun_at == [0, 0, 3]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
