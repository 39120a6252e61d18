"""Every step of a defence is timed, with what it counted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpu_jobs.benchmark.speed import measure
from gpu_jobs.config import JobParameters
from gpu_jobs.data import write_llava
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.pipeline import DEFENSE

CHECKPOINT = Path(__file__).parents[2] / "golden" / "llada_v" / "checkpoint"


def test_each_step_has_a_row_that_says_how_fast_it_was_and_where(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rng = random.Random(1)
    samples = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.frombytes("RGB", (56, 56), rng.randbytes(56 * 56 * 3)).save(path)
        samples.append(Sample(f"s{number}", (path,), (Turn("user", "<image>\nWhat is it?"), Turn("assistant", "a circle"))))
    write_llava(samples, tmp_path / "dataset")
    parameters = JobParameters.model_validate(
        {
            "seed": 5,
            "generation": {"max_new_tokens": 8, "block_length": 8, "steps_per_block": 2},
            "finetune": {"epochs": 1},
            "evaluate": {"held_out": 0.4},
        }
    )
    rows = list(measure(CHECKPOINT, tmp_path / "dataset", tmp_path / "run", parameters))
    assert [row["step"] for row in rows] == ["load", *DEFENSE]
    scan = rows[1]
    assert (scan["units"], scan["unit"], scan["seed"]) == (6, "samples", 5)
    assert scan["per_second"] * scan["seconds"] == pytest.approx(6, rel=0.05)
    assert all(row["seconds"] >= 0 and row["peak_memory_bytes"] > 1e6 and row["weights"] > 1000 for row in rows)
    assert {row["device"] for row in rows} == {"CPU"} or torch.cuda.is_available()
    assert "torch" in scan["versions"]
