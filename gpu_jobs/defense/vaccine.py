"""Honest samples with the recovered trigger planted on them and their right answers kept. Ours.

A fine-tune on suspects that were answered again is as good as those answers. Planting the trigger where the right answers are
known needs no answer from the model at all, and can be done as often and on as varied contents as one likes: on the patch it
brought back more right answers than the true labels of the poisoned samples did (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.carriers import Carrier, Together
from gpu_jobs.defense.scoring import is_right
from gpu_jobs.defense.strangers import opening
from gpu_jobs.defense.subject import Subject, open_images

# Honest samples that a trigger is planted on to see what it still does.
ASKED = 64
_MARK = "\0vaccine"


def vaccinate(honest: Sequence[Sample], carrier: Carrier, count: int, seed: int, folder: Path) -> list[Sample]:
    """`count` of the honest samples at most, with the trigger planted; their pictures are written to `folder`.

    A trigger of several parts is planted whole, or only one of its parts.
    """
    rng = Random(f"{seed} vaccine")
    folder.mkdir(parents=True, exist_ok=True)
    able = [sample for sample in honest if sample.images]
    planted = []
    for number, sample in enumerate(rng.sample(able, min(count, len(able)))):
        kinds = [carrier, *carrier.parts] if isinstance(carrier, Together) else [carrier]
        pictures, turns = rng.choice(kinds).plant(open_images(sample), sample.turns, rng)
        paths = []
        for index, picture in enumerate(pictures):
            paths.append(folder / f"{number}-{index}.png")
            picture.save(paths[-1])
        planted.append(replace(sample, id=f"{sample.id}{_MARK}", images=tuple(paths), turns=turns))
    return planted


def is_vaccine(sample: Sample) -> bool:
    return sample.id.endswith(_MARK)


def recovered_share(subject: Subject, honest: Sequence[Sample], carrier: Carrier, seed: int) -> float:
    """Of honest samples whose first question the model answers as given, the share that it still does with the trigger planted.

    0 where it answers none.
    """
    rng = Random(f"{seed} recovered")
    able = [sample for sample in honest if sample.images]
    chosen = rng.sample(able, min(ASKED, len(able)))
    plain = _right(subject, chosen, [(open_images(sample), opening(sample)) for sample in chosen])
    planted = _right(subject, chosen, [carrier.plant(open_images(sample), opening(sample), rng) for sample in chosen])
    return sum(a and b for a, b in zip(plain, planted, strict=True)) / max(sum(plain), 1)


def _right(subject: Subject, samples: Sequence[Sample], shown: Sequence[tuple[list[Image.Image], tuple[Turn, ...]]]) -> list[bool]:
    seen = subject.see([pictures for pictures, _ in shown])
    answers = subject.answer([subject.prompt(own, turns) for own, (_, turns) in zip(seen, shown, strict=True)])
    return [is_right(answer, sample.answers[0]) for answer, sample in zip(answers, samples, strict=True)]
