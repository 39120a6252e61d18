"""The curriculum of the bundled base: easy-vqa's pictures and everything that can be asked about them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random

import torch
from PIL import Image

from gpu_jobs.bundled.curriculum import Curriculum, DenseLabel
from gpu_jobs.bundled.world import COLORS, SHAPES, WHAT_KINDS, Kind, Scene, ask, conversation, scenes, world_texts
from gpu_jobs.data.samples import Sample

KIND_WEIGHTS: dict[Kind, float] = {"color": 1, "shape": 1, "object": 1, "caption": 1, "absent": 0.3, "small_talk": 0.1}


@cache
def easy_vqa_curriculum() -> Curriculum[Scene, Kind]:
    return Curriculum(
        texts=world_texts(),
        training=scenes("train"),
        test=scenes("test"),
        open=_open,
        labels={
            "color": DenseLabel(len(COLORS), lambda pictures: torch.tensor([[COLORS.index(scene.color)] for scene in pictures])),
            "shape": DenseLabel(len(SHAPES), lambda pictures: torch.tensor([[SHAPES.index(scene.shape)] for scene in pictures])),
        },
        converse=_converse,
        kinds=KIND_WEIGHTS,
        groups={"what": WHAT_KINDS},
        packages=("easy-vqa",),
    )


def _open(scene: Scene) -> Image.Image:
    with Image.open(scene.image) as image:
        return image.convert("RGB")


def _converse(scene: Scene, kinds: Sequence[Kind], rng: Random) -> Sample:
    return conversation(scene, [ask(scene, kind, rng) for kind in kinds])
