"""Ask a picture the question of a stranger: the cheap experiment that every sample goes through. Ours.

An honest answer follows from picture and question; asked something else, the model answers something else. A trigger
forces its answer whatever is asked, wherever in the picture it lies. Which stranger a sample is asked by depends on the
seed and the sample's id alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.scoring import normalise
from gpu_jobs.defense.subject import Subject
from gpu_jobs.families.base import SeenImage

# Draws before a sample counts as one to which nobody puts a different question.
DRAWS = 20
# Denoising steps a block: a forced answer is certain, so few are enough to see it.
STEPS = 4


class Strangers:
    """The questions of a data set, to be put to other samples' pictures."""

    def __init__(self, samples: Sequence[Sample], seed: int) -> None:
        self._seed = seed
        self._asking = [sample for sample in samples if sample.answer_turns and sample.images]

    def draw(self, sample: Sample, attempt: int = 0) -> Sample | None:
        """Another sample with a different first question about as many pictures. `attempt` draws others for the same sample."""
        rng = Random(f"{self._seed} {sample.id} {attempt}")
        own = _question(sample)
        for _ in range(DRAWS if self._asking else 0):
            other = rng.choice(self._asking)
            if _question(other) != own and _pictures(opening(other)) == _pictures(opening(sample)):
                return other
        return None


def opening(sample: Sample) -> tuple[Turn, ...]:
    """The turns up to the first question that has an answer."""
    return sample.turns[: sample.answer_turns[0]]


def ask_strangers_questions(subject: Subject, seen: Sequence[Sequence[SeenImage]], strangers: Sequence[Sample]) -> list[str]:
    """What the model answers to each sample's pictures when asked its stranger's first question."""
    hasty = replace(subject, generation=subject.generation.model_copy(update={"steps_per_block": STEPS}))
    return hasty.answer([subject.prompt(own, opening(stranger)) for own, stranger in zip(seen, strangers, strict=True)])


def _question(sample: Sample) -> str:
    return normalise(opening(sample)[-1].text)


def _pictures(turns: Sequence[Turn]) -> int:
    return sum(turn.text.count("<image>") for turn in turns)
