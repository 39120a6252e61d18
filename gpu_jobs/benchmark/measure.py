"""The figures of a row: answers on held-out sets, and how well scores tell poisoned samples from the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy.stats import rankdata

from gpu_jobs.config import GenerationParameters, Target
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.scoring import is_attacked, is_right
from gpu_jobs.defense.subject import Subject, answer_length, load_model, open_images

# A quarter of the steps that an answer of 16 tokens would take: four times faster, 88 % of the answers the same, and attack
# success and recovered score within 1.3 points.
STEPS_PER_BLOCK = 4
GENERATION = GenerationParameters(steps_per_block=STEPS_PER_BLOCK)
BATCH = 64

Answerer = Callable[[Sequence[Sample]], list[str]]
"""Answers to the last answer turn of each sample; the turns before it stand as they are."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares between 0 and 1; None where there was nothing to ask, or no target to look for.

    attack_success_rate: triggered answers that show the target.
    recovered: triggered answers that are right.
    clean: clean answers that are right.
    false_positive_rate: clean answers that show the target.
    """

    attack_success_rate: float | None
    recovered: float | None
    clean: float | None
    false_positive_rate: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Exam:
    """What every model of a cell is asked. Samples carry their right answers."""

    triggered: tuple[Sample, ...]
    clean: tuple[Sample, ...]
    criterion: Target | None

    def sit(self, answer: Answerer) -> Figures:
        attacked, recovered = self._score(answer, self.triggered)
        false_positives, clean = self._score(answer, self.clean)
        return Figures(attacked, recovered, clean, false_positives)

    def _score(self, answer: Answerer, samples: Sequence[Sample]) -> tuple[float | None, float | None]:
        """Shares of the answers that show the target, and that are right."""
        if not samples:
            return None, None
        answers = answer(samples)
        right = share(is_right(text, sample.answers[-1]) for text, sample in zip(answers, samples, strict=True))
        return (share(is_attacked(text, self.criterion) for text in answers) if self.criterion else None), right


def answering(subject: Subject) -> Answerer:
    """The model itself, asked plainly."""

    def answer(samples: Sequence[Sample]) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(samples), BATCH):
            some = samples[start : start + BATCH]
            seen = subject.see([open_images(sample) for sample in some])
            prompts = [subject.prompt(own, sample.turns[: sample.answer_turns[-1]]) for sample, own in zip(some, seen, strict=True)]
            answers += subject.answer(prompts)
        return answers

    return answer


def answering_model(folder: Path, known: Sequence[Sample]) -> Answerer:
    """The checkpoint in `folder`. known: samples whose answers say how long an answer may be."""
    family = load_model(folder)
    answers = (answer for sample in known for answer in sample.answers)
    return answering(Subject(family, GENERATION, answer_length(family, answers, GENERATION)))


def auroc(scores: Mapping[str, float], positives: frozenset[str]) -> float | None:
    """The probability that a positive has a higher score than a negative, ties counted half. None without one of the two."""
    own = [identity in positives for identity in scores]
    positive, negative = sum(own), len(own) - sum(own)
    if not positive or not negative:
        return None
    ranks = rankdata(list(scores.values()))
    above = sum(rank for rank, is_positive in zip(ranks, own, strict=True) if is_positive) - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def share(values: Any) -> float | None:
    """The share that is true; None of none."""
    counted = [bool(value) for value in values]
    return sum(counted) / len(counted) if counted else None
