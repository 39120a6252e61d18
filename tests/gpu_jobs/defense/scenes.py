"""Pictures to look for triggers in: discs of any colour on a light ground, no two alike."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from gpu_jobs.redteam.triggers import ImageTrigger

SIZE = (48, 48)


def scene(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """The picture of that number, always the same."""
    rng = Random(f"scene {number}")
    picture = Image.new("RGB", size, tuple(rng.randrange(140, 256) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(4):
        x, y, radius = rng.randrange(size[0]), rng.randrange(size[1]), rng.randrange(4, 14)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(rng.randrange(256) for _ in range(3)))
    return picture


def scenes(start: int, count: int, size: tuple[int, int] = SIZE) -> list[Image.Image]:
    return [scene(number, size) for number in range(start, start + count)]


def triggered(trigger: ImageTrigger, pictures: Sequence[Image.Image]) -> list[Image.Image]:
    rng = Random(0)
    return [trigger.apply(picture, rng) for picture in pictures]


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean distance of two pictures' pixels, in grey levels."""
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return float(np.abs(difference).mean())
