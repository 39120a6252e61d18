"""How well a model answers the questions of its world, by kind of question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from PIL import Image

from gpu_jobs.bundled.curriculum import Curriculum, Kind, Picture
from gpu_jobs.config import GenerationParameters
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.diffusion.sampler import generate
from gpu_jobs.families.base import Family

# The longest answer of the bundled sets, the refusal, has 15 tokens with its end.
ANSWER_TOKENS = 16
GENERATION = GenerationParameters(max_new_tokens=ANSWER_TOKENS, block_length=ANSWER_TOKENS, steps_per_block=ANSWER_TOKENS)
BATCH = 64


def answer(family: Family, samples: Sequence[Sample]) -> list[str]:
    """The model's answer to the last turn of every sample; earlier turns stand as they are."""
    answers: list[str] = []
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        answers += _answer(family, [([open_image(path) for path in sample.images], sample.turns[:-1]) for sample in batch])
    return answers


@torch.no_grad()
def _answer(family: Family, asked: Sequence[tuple[Sequence[Image.Image], Sequence[Turn]]]) -> list[str]:
    """The answers to some conversations and their pictures, all at once."""
    seen = iter(family.see([image for images, _ in asked for image in images]))
    prompts = [family.prompt([next(seen) for _ in images], turns) for images, turns in asked]
    return [family.decode_answer(ids) for ids in generate(family, prompts, GENERATION, max_new_tokens=ANSWER_TOKENS)]


def accuracy_by_kind(family: Family, curriculum: Curriculum[Picture, Kind], questions_per_kind: int, *, seed: int) -> dict[str, float]:
    """Exact match in percent on the test pictures, one question a picture.

    `overall` is over all kinds; the curriculum's groups have their names.
    """
    rng = Random(seed)
    asked = [
        (kind, picture, curriculum.converse(picture, [kind], rng))
        for kind in curriculum.kinds
        for picture in rng.sample(curriculum.test, questions_per_kind)
    ]
    given: list[str] = []
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        given += _answer(family, [([curriculum.open(picture)], sample.turns[:-1]) for _, picture, sample in batch])
    right: dict[str, list[bool]] = defaultdict(list)
    for (kind, _, sample), text in zip(asked, given, strict=True):
        names: list[str] = [kind, "overall", *(group for group, kinds in curriculum.groups.items() if kind in kinds)]
        for name in names:
            right[name].append(text == sample.answers[-1])
    return {name: percent(values) for name, values in sorted(right.items())}


def percent(values: Sequence[bool]) -> float:
    return round(100 * sum(values) / len(values), 1)


def open_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
