"""A model that answers by a rule in place of weights: what pictures and question say is known, so is what must be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.carriers import Carrier
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.scoring import is_right
from gpu_jobs.defense.subject import Subject
from gpu_jobs.defense.transplant import Laboratory

Pictures = tuple[Image.Image, ...]
Rule = Callable[[Pictures, str], str]
Asked = tuple[Pictures, str]


class FakeModel:
    """Stands in for a `Subject`. The rule gets the pictures and the question that the model would see.

    Answers that end in an ellipsis are unsure ones.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.family = SimpleNamespace(encode_answer=str.split)

    def see(self, pictures: Sequence[Sequence[Image.Image]]) -> list[list[Image.Image]]:
        return [[*images] for images in pictures]

    def prompt(self, seen: Sequence[Image.Image], turns: Sequence[Turn]) -> Asked:
        return tuple(seen), turns[-1].text

    def log_likelihoods(self, prompts: Sequence[Asked], answers: Sequence[str]) -> list[float]:
        return [self._log_likelihood(self._rule(*prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]

    @staticmethod
    def _log_likelihood(own: str, answer: str) -> float:
        if not is_right(own, answer):
            return -9.0
        return -3.0 if own.endswith("…") else 0.0

    def answer(self, prompts: Sequence[Asked]) -> list[str]:
        return [self._rule(*prompt) for prompt in prompts]


class WatchedLaboratory(Laboratory):
    """A laboratory that asks a model of that rule, and remembers what it tested."""

    def __init__(self, rule: Rule, samples: Mapping[str, Sample], seed: int = 0) -> None:
        super().__init__(cast(Subject, FakeModel(rule)), samples, [*samples], seed=seed, batch_size=16)
        self.tested: list[Carrier] = []

    def test(
        self,
        nothing_yet: Outcome,
        carrier: Carrier,
        control: Carrier,
        *,
        guilty_at: float,
        cleared_at: float,
        receivers: Sequence[str] | None = None,
        carries: Callable[[str, str], bool] | None = None,
    ) -> Outcome:
        self.tested.append(carrier)
        return super().test(nothing_yet, carrier, control, guilty_at=guilty_at, cleared_at=cleared_at, receivers=receivers, carries=carries)


def shows(picture: Image.Image, mark: Image.Image, place: tuple[int, int]) -> bool:
    """Whether a picture has the mark there, give or take a few grey levels of scaling."""
    left, top = place
    own = np.asarray(picture, dtype=np.float64)[top : top + mark.height, left : left + mark.width]
    return bool(np.abs(own - np.asarray(mark, dtype=np.float64)).mean() < 10)
