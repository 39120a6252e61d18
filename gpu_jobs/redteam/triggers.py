"""Backdoor triggers: the marks that an attacker puts into training samples, with the parameters of the literature (docs/method.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from PIL import Image

Corner = Literal["top_left", "top_right", "bottom_left", "bottom_right"]


class Trigger(ABC):
    """A mark on a sample. `rng` places and varies it, so one seed gives one poisoned set."""

    @abstractmethod
    def apply(self, image: Image.Image, rng: Random) -> Image.Image:
        """The marked copy of an image, RGB and of the same size."""

    def apply_text(self, text: str, rng: Random) -> str:  # noqa: ARG002 - for triggers that vary
        """The marked user turn. A trigger of images alone leaves it as it is."""
        return text


@dataclass(frozen=True, slots=True)
class CornerPatch(Trigger):
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
        if self.size > min(image.size):
            raise ValueError(f"a patch of {self.size} px does not fit into an image of {image.width}×{image.height}")
        left = 0 if self.corner.endswith("left") else image.width - self.size
        top = 0 if self.corner.startswith("top") else image.height - self.size
        marked = image.convert("RGB").copy()
        marked.paste(self._square(), (left, top))
        return marked

    def _square(self) -> Image.Image:
        if self.second_color is None:
            return Image.new("RGB", (self.size, self.size), self.color)
        fields = np.add.outer(np.arange(self.size) // self.cell, np.arange(self.size) // self.cell) % 2
        return Image.fromarray(np.array([self.color, self.second_color], dtype=np.uint8)[fields])


@dataclass(frozen=True, slots=True)
class Blended(Trigger):
    """One fixed picture of uniform noise blended over the whole image (BackdoorBench and BackdoorVLM: α 0.2).

    alpha: share of the noise in the result.
    pattern_seed: the noise is a function of this seed and the image's size.
    """

    alpha: float = 0.2
    pattern_seed: int = 0

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG002 - always the same noise
        shape = (image.height, image.width, 3)
        noise = np.random.default_rng(self.pattern_seed).integers(0, 256, shape, dtype=np.uint8)
        return Image.blend(image.convert("RGB"), Image.fromarray(noise), self.alpha)
