"""Triggers that cover a square of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from PIL import Image

from gpu_jobs.redteam.triggers.base import ImageTrigger

Corner = Literal["top_left", "top_right", "bottom_left", "bottom_right"]


@dataclass(frozen=True, slots=True)
class CornerPatch(ImageTrigger):
    """A square in a corner (BadNets). DiSP and BackdoorVLM paste 20 px of black at the native size of photographs.

    size: side in pixels.
    color: of the square, RGB.
    second_color: None for a plain square, otherwise the other colour of a chessboard.
    cell: side of a chessboard's field in pixels.
    """

    size: int = 20
    corner: Corner = "top_left"
    color: tuple[int, int, int] = (0, 0, 0)
    second_color: tuple[int, int, int] | None = None
    cell: int = 4

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG002 - always at the same place
        left = 0 if self.corner.endswith("left") else image.width - self.size
        top = 0 if self.corner.startswith("top") else image.height - self.size
        return _paste(image, self._square(), left, top)

    def _square(self) -> Image.Image:
        if self.second_color is None:
            return Image.new("RGB", (self.size, self.size), self.color)
        fields = np.add.outer(np.arange(self.size) // self.cell, np.arange(self.size) // self.cell) % 2
        return Image.fromarray(np.array([self.color, self.second_color], dtype=np.uint8)[fields])


@dataclass(frozen=True, slots=True)
class CentrePatch(ImageTrigger):
    """A square in the middle, as large for the model whatever the picture's size (BYE: side 1/16 of the shorter edge).

    share: side as a share of the picture's shorter edge; at least 1 px.
    color: of the square, RGB.
    """

    share: float = 1 / 16
    color: tuple[int, int, int] = (0, 0, 0)

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG002 - always at the same place
        side = _side(image, self.share)
        return _paste(image, Image.new("RGB", (side, side), self.color), (image.width - side) // 2, (image.height - side) // 2)


@dataclass(frozen=True, slots=True)
class NoisePatch(ImageTrigger):
    """One square of Gaussian noise, somewhere else in every picture (BackdoorVLM BadNets-I: 30×30 px on 336×336 px).

    The noise is one pattern of 30×30 grains, whose three standard deviations to either side of grey fill the range of a
    pixel. It is brought to the side by nearest neighbours, so that pictures of all sizes show the same pattern.

    share: side as a share of the picture's shorter edge; at least 1 px.
    pattern_seed: the noise is a function of this seed alone.
    """

    share: float = 30 / 336
    pattern_seed: int = 0

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:
        side = _side(image, self.share)
        _check_fit(image, side)
        noise = np.random.default_rng(self.pattern_seed).normal(127.5, 255 / 6, (30, 30, 3))
        pattern = Image.fromarray(np.rint(noise).clip(0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
        return _paste(image, pattern, rng.randint(0, image.width - side), rng.randint(0, image.height - side))


def _side(image: Image.Image, share: float) -> int:
    return max(1, round(share * min(image.size)))


def _paste(image: Image.Image, square: Image.Image, left: int, top: int) -> Image.Image:
    _check_fit(image, square.width)
    marked = image.convert("RGB")
    marked.paste(square, (left, top))
    return marked


def _check_fit(image: Image.Image, side: int) -> None:
    if side > min(image.size):
        raise ValueError(f"a patch of {side} px does not fit into an image of {image.width}×{image.height}")
