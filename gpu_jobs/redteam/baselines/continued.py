"""Fine-tune the suspect once more on the poisoned set: what the fine-tune alone does, whatever the data."""

from __future__ import annotations

from typing import ClassVar

from gpu_jobs.data.samples import Sample
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.training import Retrained


class Continued(Retrained):
    """The set as it is."""

    name: ClassVar[str] = "continued"

    def training_samples(self, case: Case) -> list[Sample]:
        return list(case.samples)
