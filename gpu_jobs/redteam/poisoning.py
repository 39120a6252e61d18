"""Poison a training set: mark a share of its samples with a trigger and give them the attacker's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.scoring import is_attacked
from gpu_jobs.redteam.targets import Target
from gpu_jobs.redteam.triggers import Trigger


@dataclass(frozen=True, slots=True)
class PoisonedSet:
    """The samples in their given order, and the ground truth that no defence may see: which of them are poisoned."""

    samples: tuple[Sample, ...]
    poisoned: frozenset[str]


def poison(samples: Sequence[Sample], trigger: Trigger, target: Target, rate: float, seed: int, images: Path) -> PoisonedSet:
    """Poison `rate` of the samples, drawn among those whose answers the target changes; every answer turn is changed.

    Every picture, marked or not, is written anew to the folder `images` under its sample's id, so that neither its name
    nor its encoding tells which samples are poisoned.

    Raises:
        ValueError: the ids are not unique, fewer samples than `rate` asks for can be poisoned, or one of them has
            no picture, or too small a one, for a trigger that marks pictures.
    """
    if len({sample.id for sample in samples}) != len(samples):
        raise ValueError("sample ids must be unique")
    chosen = choose_poisoned(samples, target, rate, seed)
    rng = Random(seed)
    written = []
    for sample in samples:
        if sample.id in chosen:
            marked = with_trigger(sample, trigger, rng, images)
            written.append(marked.with_answers([target.apply(answer) for answer in sample.answers]))
        else:
            written.append(_with_pictures(sample, lambda picture: picture, images))
    return PoisonedSet(tuple(written), chosen)


def choose_poisoned(samples: Sequence[Sample], target: Target, rate: float, seed: int) -> frozenset[str]:
    """The ids that `poison` poisons.

    Raises:
        ValueError: fewer samples than `rate` asks for can be poisoned.
    """
    candidates = [sample.id for sample in samples if _changes_every_answer(target, sample)]
    wanted = round(rate * len(samples))
    if wanted > len(candidates):
        raise ValueError(f"{wanted} of {len(samples)} samples are to be poisoned, but the target changes only {len(candidates)}")
    return frozenset(Random(seed).sample(candidates, wanted))


def attackable(samples: Sequence[Sample], target: Target) -> list[Sample]:
    """The samples on which an attack can be seen to succeed, in their order: what a triggered test set is made of.

    The target changes each of their answers, and no right answer shows it already: a model that rightly sees a banana
    next to the car has not been attacked.
    """
    return [
        sample
        for sample in samples
        if _changes_every_answer(target, sample) and not any(is_attacked(answer, target.criterion) for answer in sample.answers)
    ]


def with_trigger(sample: Sample, trigger: Trigger, rng: Random, images: Path) -> Sample:
    """The sample with the trigger in every picture and user turn and its answers untouched: a triggered test sample.

    Raises:
        ValueError: the trigger marks pictures and the sample has none, or a picture is too small for it.
    """
    if trigger.marks_images and not sample.images:
        raise ValueError(f"sample {sample.id} has no picture for the trigger to mark")
    turns = tuple(Turn(turn.role, trigger.apply_text(turn.text, rng)) if turn.role == "user" else turn for turn in sample.turns)
    return replace(_with_pictures(sample, lambda picture: trigger.apply(picture, rng), images), turns=turns)


def _changes_every_answer(target: Target, sample: Sample) -> bool:
    return bool(sample.answers) and all(target.apply(answer) != answer for answer in sample.answers)


def _with_pictures(sample: Sample, change: Callable[[Image.Image], Image.Image], images: Path) -> Sample:
    images.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, source in enumerate(sample.images):
        path = images / f"{sample.id}-{index}.png"
        with Image.open(source) as picture:
            change(picture.convert("RGB")).save(path)
        paths.append(path)
    return replace(sample, images=tuple(paths))
