"""Triggers that lie over the whole picture."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from gpu_jobs.redteam.triggers.base import ImageTrigger


@dataclass(frozen=True, slots=True)
class Blended(ImageTrigger):
    """One fixed picture of uniform noise blended over the whole image (BackdoorBench and BackdoorVLM: α 0.2; 0.1 is used too).

    alpha: share of the noise in the result.
    pattern_seed: the noise is a function of this seed and the image's size.
    """

    alpha: float = 0.2
    pattern_seed: int = 0

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG002 - always the same noise
        shape = (image.height, image.width, 3)
        noise = np.random.default_rng(self.pattern_seed).integers(0, 256, shape, dtype=np.uint8)
        return Image.blend(image.convert("RGB"), Image.fromarray(noise), self.alpha)


@dataclass(frozen=True, slots=True)
class Sig(ImageTrigger):
    """Upright stripes: a sinusoid along the width added to every channel (SIG; BackdoorBench: Δ 40, f 6).

    delta: amplitude in grey levels of 255.
    frequency: periods across the width.
    """

    delta: float = 40
    frequency: float = 6

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG002 - always the same stripes
        pixels = np.asarray(image.convert("RGB"), dtype=np.float64)  # [height, width, 3]
        stripes = self.delta * np.sin(2 * np.pi * self.frequency * np.arange(image.width) / image.width)
        return _picture(pixels + stripes[None, :, None])


@dataclass(frozen=True, slots=True)
class WaNet(ImageTrigger):
    """The whole picture bent by one smooth field of shifts (WaNet, arXiv:2102.10369: s 0.5, k 4).

    The field is drawn at k×k control points from [−1, 1], divided by its mean absolute value and brought to the picture's size by
    cubic splines. The published scaling divides by the picture's side, so the mean shift is about 0.4 s pixels whatever that
    size: a fifth of a pixel by default, meant for pictures of 32 px. Larger pictures want a larger s.

    strength: s.
    control_points: k, along each side.
    field_seed: the field is a function of this seed alone.
    """

    strength: float = 0.5
    control_points: int = 4
    field_seed: int = 0

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG002 - always the same field
        pixels = np.asarray(image.convert("RGB"), dtype=np.float64)  # [height, width, 3]
        places = self._places(image.height, image.width)
        channels = [map_coordinates(pixels[..., channel], places, order=1, mode="nearest") for channel in range(3)]
        return _picture(np.stack(channels, axis=-1))

    def _places(self, height: int, width: int) -> NDArray[np.float64]:
        """Where each pixel is taken from, rows and columns in pixels. [2, height, width]"""
        field = self._field(height, width)
        identity = np.stack(np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"))
        sides = np.array([height, width])[:, None, None]
        # From −1, the centre of the first pixel, to 1, that of the last.
        grid = np.clip(identity + self.strength * field / sides, -1, 1)
        places: NDArray[np.float64] = (grid + 1) / 2 * (sides - 1)
        return places

    def _field(self, height: int, width: int) -> NDArray[np.float64]:
        """Shifts of rows and columns, without unit. [2, height, width]"""
        control = np.random.default_rng(self.field_seed).uniform(-1, 1, (2, self.control_points, self.control_points))
        control /= np.abs(control).mean()
        last = self.control_points - 1
        points = np.meshgrid(np.linspace(0, last, height), np.linspace(0, last, width), indexing="ij")
        return np.stack([map_coordinates(axis, points, order=3, mode="nearest") for axis in control])


def _picture(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
