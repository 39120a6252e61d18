"""The world `easy_vqa`: one coloured shape on a plain background, as the bundled models know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Literal

from gpu_jobs.benchmark.worlds.base import Flavour
from gpu_jobs.benchmark.worlds.rows import draw_pictures, plan_rows
from gpu_jobs.bundled import world
from gpu_jobs.bundled.world import PICTURE_KINDS, Kind, Question, Scene, ask, conversation, scenes
from gpu_jobs.data.samples import Sample
from gpu_jobs.redteam.targets import ConceptSwap

RowKind = Kind | Literal["presence"]
# Every picture shows a shape, so all of these are rightly answered alike. The base has never been asked them.
PRESENCE = (
    "Is there a shape in the image?",
    "Can you see a shape?",
    "Does the image show a shape?",
    "Is any shape visible here?",
)
PRESENT = "yes"


class EasyVqa:
    """The pictures of the package easy-vqa; see `gpu_jobs.bundled.world` for what is known about them and asked."""

    name: Literal["easy_vqa"] = "easy_vqa"

    @property
    def base(self) -> Path:
        return Path(world.__file__).parent / "base"

    @property
    def swap(self) -> ConceptSwap:
        return ConceptSwap("circle", "rectangle")

    def training_samples(self, count: int, seed: int, flavour: Flavour = "plain") -> list[Sample]:
        rng = Random(f"easy_vqa train {seed}")
        kinds: tuple[RowKind, ...] = PICTURE_KINDS
        rows = plan_rows(count, kinds, rng, flavour, absent="absent", repeated="presence")
        drawn = draw_pictures(scenes("train"), count, rng)
        return [_sample(scene, round_, _questions(scene, row, rng)) for (round_, scene), row in zip(drawn, rows, strict=True)]

    def test_samples(self, count: int, seed: int) -> list[Sample]:
        rng = Random(f"easy_vqa test {seed}")
        asked: set[tuple[int, str]] = set()
        samples = []
        for round_, scene in draw_pictures(scenes("test"), count, rng):
            question = ask(scene, rng.choice(PICTURE_KINDS), rng)
            while (scene.number, question.text) in asked:
                question = ask(scene, rng.choice(PICTURE_KINDS), rng)
            asked.add((scene.number, question.text))
            samples.append(_sample(scene, round_, [question]))
        return samples


def _questions(scene: Scene, kinds: Sequence[RowKind], rng: Random) -> list[Question]:
    """One question of each kind. `presence` counts as a question for the object."""
    return [Question("object", rng.choice(PRESENCE), PRESENT) if kind == "presence" else ask(scene, kind, rng) for kind in kinds]


def _sample(scene: Scene, round_: int, questions: Sequence[Question]) -> Sample:
    sample = conversation(scene, questions)
    return replace(sample, id=f"{sample.id}-{round_}") if round_ else sample
