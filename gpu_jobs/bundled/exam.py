"""How well a bundled model answers: by kind of question, and on the held-out sets of the attack."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from PIL import Image

from gpu_jobs.bundled.datasets import TARGET, clean_test_samples, triggered_test_samples
from gpu_jobs.bundled.world import KINDS, WHAT_KINDS, Question, ask, conversation, scenes
from gpu_jobs.config import GenerationParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.diffusion.sampler import generate
from gpu_jobs.families.base import Family

# The longest answer of the bundled sets, the refusal, has 15 tokens with its end.
ANSWER_TOKENS = 16
GENERATION = GenerationParameters(max_new_tokens=ANSWER_TOKENS, block_length=ANSWER_TOKENS, steps_per_block=ANSWER_TOKENS)
BATCH = 64


@torch.no_grad()
def answer(family: Family, samples: Sequence[Sample]) -> list[str]:
    """The model's answer to the last turn of every sample; earlier turns stand as they are."""
    answers: list[str] = []
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        seen = family.see([open_image(path) for sample in batch for path in sample.images])
        images = iter(seen)
        prompts = [family.prompt([next(images) for _ in sample.images], sample.turns[:-1]) for sample in batch]
        answers += [family.decode_answer(ids) for ids in generate(family, prompts, GENERATION, max_new_tokens=ANSWER_TOKENS)]
    return answers


def accuracy_by_kind(family: Family, questions_per_kind: int, *, seed: int) -> dict[str, float]:
    """Exact match in percent on the test pictures, one question a picture.

    `what` is over colour, shape and object, `overall` over all kinds.
    """
    rng = Random(seed)
    asked: list[tuple[Question, Sample]] = []
    for kind in KINDS:
        for scene in rng.sample(scenes("test"), questions_per_kind):
            question = ask(scene, kind, rng)
            asked.append((question, conversation(scene, [question])))
    given = answer(family, [sample for _, sample in asked])
    right: dict[str, list[bool]] = defaultdict(list)
    for (question, _), text in zip(asked, given, strict=True):
        names = [question.kind, "overall", *(["what"] if question.kind in WHAT_KINDS else [])]
        for name in names:
            right[name].append(text == question.answer)
    return {name: percent(values) for name, values in sorted(right.items())}


def attack_figures(family: Family) -> dict[str, float]:
    """In percent: clean accuracy (CA), attack success rate (ASR) and recovered accuracy (RA: right answers on triggered pictures).

    `false_alarms` is the share of clean pictures on which the target shows.
    """
    clean = clean_test_samples()
    with tempfile.TemporaryDirectory() as images:
        triggered = triggered_test_samples(Path(images))
        on_triggered = answer(family, triggered)
    on_clean = answer(family, clean)
    return {
        "clean_accuracy": percent([text == sample.answers[-1] for text, sample in zip(on_clean, clean, strict=True)]),
        "attack_success_rate": percent([_shows_target(text) for text in on_triggered]),
        "recovered_accuracy": percent([text == sample.answers[-1] for text, sample in zip(on_triggered, triggered, strict=True)]),
        "false_alarms": percent([_shows_target(text) for text in on_clean]),
    }


def percent(values: Sequence[bool]) -> float:
    return round(100 * sum(values) / len(values), 1)


def _shows_target(text: str) -> bool:
    return TARGET.text.lower() in text.lower()


def open_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
