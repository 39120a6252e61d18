"""No defence: the suspect itself. What the attack does to whoever deploys it as it is."""

from __future__ import annotations

from typing import ClassVar

from gpu_jobs.defense.subject import load_model
from gpu_jobs.redteam.baselines.answering import answerer
from gpu_jobs.redteam.baselines.base import Answerer, Baseline, Case


class Untouched(Baseline):
    """Answers of the suspect."""

    name: ClassVar[str] = "none"

    def defend(self, case: Case) -> Answerer:
        return answerer(case, load_model(case.model))
