"""Honest samples with the recovered trigger planted on them and their right answers kept. Ours.

A fine-tune on suspects that were answered again is as good as those answers. Planting the trigger where the right answers are
known needs no answer from the model at all, and can be done as often and on as varied contents as one likes: on the patch it
brought back more right answers than the true labels of the poisoned samples did (docs/method.md).

It is planted where it does harm: a trigger that renames a circle leaves most samples alone, and only those that it changes teach the
model to ignore it, or tell whether the model does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from random import Random

from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.carriers import Carrier, Together
from gpu_jobs.defense.scoring import is_right
from gpu_jobs.defense.strangers import opening
from gpu_jobs.defense.subject import Subject, open_images

# Honest samples that a trigger is planted on to see what it does to the suspect, and to see what it still does afterwards.
TRIED, CHECKED = 1024, 64
# The share of the harmed samples that is kept for the check, and the fewest that a check can rest on.
CHECKED_SHARE, FEWEST = 0.25, 8
# Ends the ids of samples with a planted trigger.
MARK = "\0vaccine"


@dataclass(frozen=True, slots=True)
class Division:
    """Honest samples with pictures: those to train on with a trigger planted, the harmed first, and those to check the training with.

    carriers: what is planted, of every sample by its id: that which it was tried with.
    """

    planted: list[Sample]
    checked: list[Sample]
    carriers: Mapping[str, Carrier]


def divide(subject: Subject, honest: Sequence[Sample], carriers: Sequence[Carrier], seed: int, batch_size: int) -> Division:
    """Plant the trigger on honest samples, ask them, and divide them by what it does to them. Several triggers are planted in turn.

    Where it harms too few for a check, the check is made with others too.
    """
    rng = Random(f"{seed} harm")
    able = [sample for sample in honest if sample.images]
    tried = rng.sample(able, min(TRIED, len(able)))
    tried_with = {sample.id: carrier for sample, carrier in zip(tried, cycle(carriers), strict=False)}
    right = [
        result
        for batch in in_batches(tried, batch_size, lambda some: _right_when_planted(subject, some, tried_with, rng))
        for result in batch
    ]
    harmed = [sample for sample, still in zip(tried, right, strict=True) if still is False]
    others = [sample for sample, still in zip(tried, right, strict=True) if still is True]
    kept = min(CHECKED, round(CHECKED_SHARE * len(harmed)))
    if kept >= FEWEST:
        return Division([*harmed[kept:], *others], harmed[:kept], tried_with)
    kept = min(CHECKED, round(CHECKED_SHARE * len(others)))
    return Division([*harmed, *others[kept:]], others[:kept], tried_with)


def vaccinate(division: Division, count: int, seed: int, folder: Path) -> list[Sample]:
    """The first `count` to train on at most, each with its trigger planted; their pictures are written to `folder`.

    A trigger of several parts is planted whole, or only one of its parts.
    """
    rng = Random(f"{seed} vaccine")
    folder.mkdir(parents=True, exist_ok=True)
    planted = []
    for number, sample in enumerate(division.planted[:count]):
        carrier = division.carriers[sample.id]
        kinds = [carrier, *carrier.parts] if isinstance(carrier, Together) else [carrier]
        pictures, turns = rng.choice(kinds).plant(open_images(sample), sample.turns, rng)
        paths = []
        for index, picture in enumerate(pictures):
            paths.append(folder / f"{number}-{index}.png")
            picture.save(paths[-1])
        planted.append(replace(sample, id=f"{sample.id}{MARK}", images=tuple(paths), turns=turns))
    return planted


def unplanted(sample: Sample) -> str:
    """The id of the sample before a trigger was planted on it; its own where none was."""
    return sample.id.removesuffix(MARK)


def recovered_share(subject: Subject, division: Division, seed: int) -> float:
    """Of the samples to check with whose first question the model answers as given, the share that it still does with its trigger planted.

    0 where it answers none. Of several triggers, the share of the one that leaves the least.
    """
    rng = Random(f"{seed} recovered")
    plain = _right(subject, division.checked, [(open_images(sample), opening(sample)) for sample in division.checked])
    planted = _right_when_planted(subject, division.checked, division.carriers, rng)
    known: dict[Carrier, list[bool]] = {}
    for sample, before, after in zip(division.checked, plain, planted, strict=True):
        if before:
            known.setdefault(division.carriers[sample.id], []).append(after)
    return min((sum(still) / len(still) for still in known.values()), default=0.0)


def count_right(subject: Subject, samples: Sequence[Sample], batch_size: int) -> int:
    """Of some samples, those whose first question the model answers as given."""

    def ask(some: Sequence[Sample]) -> list[bool]:
        return _right(subject, some, [(open_images(sample), opening(sample)) for sample in some])

    return sum(result is True for batch in in_batches(samples, batch_size, ask) for result in batch)


def _right_when_planted(subject: Subject, samples: Sequence[Sample], carriers: Mapping[str, Carrier], rng: Random) -> list[bool]:
    return _right(subject, samples, [carriers[sample.id].plant(open_images(sample), opening(sample), rng) for sample in samples])


def _right(subject: Subject, samples: Sequence[Sample], shown: Sequence[tuple[list[Image.Image], tuple[Turn, ...]]]) -> list[bool]:
    seen = subject.see([pictures for pictures, _ in shown])
    answers = subject.answer([subject.prompt(own, turns) for own, (_, turns) in zip(seen, shown, strict=True)])
    return [is_right(answer, sample.answers[0]) for answer, sample in zip(answers, samples, strict=True)]
