"""The curriculum of the base of this world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from random import Random

import torch
from torch import Tensor

from gpu_jobs.benchmark.worlds.glyphs.drawing import draw
from gpu_jobs.benchmark.worlds.glyphs.questions import PICTURE_KINDS, Kind, all_texts, ask, turns
from gpu_jobs.benchmark.worlds.glyphs.scenes import COLORS, GLYPHS, SIDES, Scene, Symbol, scenes
from gpu_jobs.bundled.blueprint import TOKENS_PER_SIDE
from gpu_jobs.bundled.curriculum import Curriculum, DenseLabel, Erasing
from gpu_jobs.data.samples import Sample

KIND_WEIGHTS: dict[Kind, float] = {
    "color": 0.7, "glyph": 0.7, "symbol": 0.7, "next": 2, "both": 0.7, "count": 0.1, "absent": 0.3, "small_talk": 0.1,
}  # fmt: skip
# Less than easy-vqa's: a tower that has learned to look past squares of any size hardly sees a patch, and is hard to attack while frozen.
ERASING = Erasing(share=0.25, side=(4, 10))


@cache
def glyphs_curriculum() -> Curriculum[Scene, Kind]:
    return Curriculum(
        texts=all_texts(),
        training=scenes("train"),
        test=scenes("test"),
        open=draw,
        # A token names the symbol of its own half, so that what a question is about stays where it is.
        labels={
            "color": DenseLabel(len(COLORS), _by_half(lambda symbol: COLORS.index(symbol.color))),
            "glyph": DenseLabel(len(GLYPHS), _by_half(lambda symbol: GLYPHS.index(symbol.glyph))),
            "side": DenseLabel(len(SIDES), lambda pictures: _halves(torch.tensor([[0, 1]] * len(pictures)))),
        },
        converse=_converse,
        kinds=KIND_WEIGHTS,
        groups={"plain": PICTURE_KINDS},
        packages=("matplotlib", "pillow"),
        mirrored=False,
        erasing=ERASING,
        tower_steps=2500,
        answer_steps=3000,
    )


def _by_half(number: Callable[[Symbol], int]) -> Callable[[Sequence[Scene]], Tensor]:
    return lambda pictures: _halves(torch.tensor([[number(scene.on(side)) for side in SIDES] for scene in pictures]))


def _halves(numbers: Tensor) -> Tensor:
    """[pictures, 2] for left and right → [pictures, tokens], row by row."""
    row = numbers.repeat_interleave(TOKENS_PER_SIDE // 2, dim=1)  # [pictures, tokens of a row]
    return row.repeat(1, TOKENS_PER_SIDE)


def _converse(scene: Scene, kinds: Sequence[Kind], rng: Random) -> Sample:
    # The pictures are in memory; no file is named.
    return Sample(f"{scene.split}-{scene.number}", (), turns([ask(scene, kind, rng) for kind in kinds]))
