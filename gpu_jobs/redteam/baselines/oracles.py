"""Oracles read the truth that no defence has. They bound what the same fine-tune can give, and are no rivals.

`true_labels` is a perfect purification: triggered pictures with their right answers among the clean ones. `clean_finetune` is a
perfect filter: clean samples alone. The gap between the two is what relabelled triggered pictures are worth.
"""

from __future__ import annotations

from typing import ClassVar

from gpu_jobs.data.samples import Sample
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.training import Retrained


class TrueLabels(Retrained):
    """Every sample, triggers left in, with its right answers."""

    name: ClassVar[str] = "true_labels"
    oracle: ClassVar[bool] = True

    def training_samples(self, case: Case) -> list[Sample]:
        return [sample.with_answers(case.right[sample.id]) for sample in case.samples]


class CleanFinetune(Retrained):
    """The samples that are not poisoned, with their right answers, and nothing else."""

    name: ClassVar[str] = "clean_finetune"
    oracle: ClassVar[bool] = True

    def training_samples(self, case: Case) -> list[Sample]:
        return [sample.with_answers(case.right[sample.id]) for sample in case.samples if sample.id not in case.poisoned]
