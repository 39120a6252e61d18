"""A tiny case: the bundled suspect, 32 samples of which a quarter is poisoned, one optimiser step an epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gpu_jobs.bundled
from gpu_jobs.bundled.datasets import TARGET, TRIGGER, clean_test_samples, clean_training_samples
from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.redteam.baselines import Case
from gpu_jobs.redteam.poisoning import poison

BUNDLED = Path(gpu_jobs.bundled.__file__).parent


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    clean = clean_training_samples()[:32]
    poisoned = poison(clean, TRIGGER, TARGET, 0.25, 0, tmp_path_factory.mktemp("pictures"))
    parameters = JobParameters.model_validate(
        {"generation": {"steps_per_block": 2}, "masking": {"probes": 2}, "finetune": {"epochs": 1, "batch_size": 32}}
    )
    return Case(
        model=BUNDLED / "suspect",
        samples=poisoned.samples,
        right={sample.id: sample.answers for sample in clean},
        poisoned=poisoned.poisoned,
        flagged=frozenset(sorted(poisoned.poisoned)[:-1]),
        base=BUNDLED / "base",
        parameters=parameters,
        seed=0,
    )


@pytest.fixture(scope="session")
def questions() -> list[Sample]:
    """Samples that no baseline was trained on; one of them has two turns."""
    samples = clean_test_samples()
    two_turns = next(sample for sample in samples if len(sample.answer_turns) == 2)
    return [*samples[:4], two_turns]
