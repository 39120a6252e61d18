"""Drop a random fifth of the training set and fine-tune on the rest: what a filter is worth that knows nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.training import generator
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.training import Retrained


@dataclass(frozen=True)
class RandomDrop(Retrained):
    """share: of the samples that are dropped (20 %, as the literature on filtering has it)."""

    name: ClassVar[str] = "random_drop"
    share: float = 0.2

    def training_samples(self, case: Case) -> list[Sample]:
        order = torch.randperm(len(case.samples), generator=generator(case.seed, self.name)).tolist()
        dropped = set(order[: round(self.share * len(order))])
        return [sample for number, sample in enumerate(case.samples) if number not in dropped]
