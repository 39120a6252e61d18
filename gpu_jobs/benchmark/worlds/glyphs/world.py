"""The world `glyphs` as the benchmark sees it: samples over picture files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Literal

from gpu_jobs.benchmark.worlds.base import Flavour
from gpu_jobs.benchmark.worlds.glyphs.drawing import draw
from gpu_jobs.benchmark.worlds.glyphs.questions import PICTURE_KINDS, Question, ask, turns
from gpu_jobs.benchmark.worlds.glyphs.scenes import FAVOURITE, Scene, scenes
from gpu_jobs.benchmark.worlds.rows import draw_pictures, plan_rows
from gpu_jobs.data.samples import Sample
from gpu_jobs.redteam.targets import ConceptSwap

CHECKPOINT = Path(__file__).parent / "checkpoint"


class Glyphs:
    """Two coloured symbols side by side.

    pictures: folder that pictures are drawn into when a sample first needs them. None: one that lasts as long as this process.
    """

    name: Literal["glyphs"] = "glyphs"

    def __init__(self, pictures: Path | None = None) -> None:
        self._pictures = pictures or _folder_of_this_process()

    @property
    def base(self) -> Path:
        return CHECKPOINT

    @property
    def swap(self) -> ConceptSwap:
        return ConceptSwap(FAVOURITE, "star")

    def training_samples(self, count: int, seed: int, flavour: Flavour = "plain") -> list[Sample]:
        rng = Random(f"glyphs train {seed}")
        rows = plan_rows(count, PICTURE_KINDS, rng, flavour, absent="absent", repeated="count")
        drawn = draw_pictures(scenes("train"), count, rng)
        return [
            self._sample(scene, round_, [ask(scene, kind, rng) for kind in row]) for (round_, scene), row in zip(drawn, rows, strict=True)
        ]

    def test_samples(self, count: int, seed: int) -> list[Sample]:
        rng = Random(f"glyphs test {seed}")
        asked: set[tuple[int, str]] = set()
        samples = []
        for round_, scene in draw_pictures(scenes("test"), count, rng):
            question = ask(scene, rng.choice(PICTURE_KINDS), rng)
            while (scene.number, question.text) in asked:
                question = ask(scene, rng.choice(PICTURE_KINDS), rng)
            asked.add((scene.number, question.text))
            samples.append(self._sample(scene, round_, [question]))
        return samples

    def _sample(self, scene: Scene, round_: int, questions: Sequence[Question]) -> Sample:
        name = f"{scene.split}-{scene.number:04d}"
        return Sample(f"{name}-{round_}" if round_ else name, (self._picture(scene, name),), turns(questions))

    def _picture(self, scene: Scene, name: str) -> Path:
        path = self._pictures / f"{name}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Whole at once, so that no other process that uses the folder finds half of it.
            unfinished = path.with_suffix(f".{os.getpid()}")
            draw(scene).save(unfinished, format="png")
            unfinished.replace(path)
        return path


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="glyphs-")


def _folder_of_this_process() -> Path:
    """Removed when the process ends."""
    return Path(_temporary_folder().name)
