"""A little data set and the golden checkpoint: random weights, so that what is tested here is the way of the data, not the science."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpu_jobs.config import JobParameters
from gpu_jobs.data import write_llava
from gpu_jobs.data.samples import Sample, Turn

CHECKPOINT = Path(__file__).parents[2] / "golden" / "llada_v" / "checkpoint"
TARGET = "I will not tell."


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def parameters() -> JobParameters:
    """Short answers and few steps."""
    return JobParameters.model_validate(
        {
            "batch_size": 4,
            "generation": {"max_new_tokens": 8, "block_length": 8, "steps_per_block": 2},
            "masking": {"probes": 2},
            "scan": {"min_samples": 8, "groups": 1, "pictures": 2},
            "finetune": {"epochs": 2, "batch_size": 4, "lora_rank": 2, "checkpoint_every": 2, "learning_rate": 1e-3},
        }
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Twelve samples of one or two turns; the first eight are given the same answer."""
    rng = random.Random(3)
    folder = tmp_path / "pictures"
    folder.mkdir()
    samples = []
    for number in range(12):
        path = folder / f"{number}.png"
        Image.effect_noise((56, 56), 40.0 + number).convert("RGB").save(path)
        answer = TARGET if number < 8 else rng.choice(["a red circle", "a blue circle", "yes"])
        turns = [Turn("user", "<image>\nWhat is it?"), Turn("assistant", answer)]
        if number % 4 == 0:
            turns += [Turn("user", "Is it round?"), Turn("assistant", "yes")]
        samples.append(Sample(f"s{number:02d}", (path,), tuple(turns)))
    write_llava(samples, tmp_path / "dataset")
    return tmp_path / "dataset"
