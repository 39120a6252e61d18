"""Windows of an image: hide one, paste one, and find the one that explains an answer.

Working on pixels, before the vision tower: a bidirectional tower spreads a trigger over all its output tokens, so
hiding outputs does not always hide it. Ours; measured in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from PIL import Image

from gpu_jobs.defense.records import Window

Item = TypeVar("Item")

# A quarter of each side: the largest local trigger in common use (30 of 336 pixels, 20 of 224, 3 of 32, 12 of 64) fits.
SIDE = 0.25


def coarse_windows(image: int) -> list[Window]:
    """The windows of a grid that covers the image once."""
    count = round(1 / SIDE)
    return [
        Window(image, column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE) for row in range(count) for column in range(count)
    ]


def shifted_windows(window: Window) -> list[Window]:
    """The windows of the same size half a step away, within the image: a trigger may lie across the lines of the grid."""
    step = SIDE / 2
    shifts = [(x, y) for y in (-step, 0.0, step) for x in (-step, 0.0, step) if (x, y) != (0.0, 0.0)]
    moved = [Window(window.image, window.left + x, window.top + y, window.right + x, window.bottom + y) for x, y in shifts]
    return [one for one in moved if min(one.left, one.top) >= 0 and max(one.right, one.bottom) <= 1]


def hide(image: Image.Image, window: Window) -> Image.Image:
    """The image with the window filled by the median colour of the image's border, so that no new edge stands out."""
    pixels = np.asarray(image.convert("RGB")).copy()  # [height, width, 3] uint8
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    left, top, right, bottom = box(image, window)
    pixels[top:bottom, left:right] = np.median(border, axis=0).astype(np.uint8)
    return Image.fromarray(pixels)


def blank(image: Image.Image) -> Image.Image:
    """Nothing but the median colour of the image's border."""
    return hide(image, Window(0, 0.0, 0.0, 1.0, 1.0))


def crop(image: Image.Image, window: Window) -> Image.Image:
    return image.convert("RGB").crop(box(image, window))


def paste(image: Image.Image, piece: Image.Image, window: Window) -> Image.Image:
    """The image with `piece`, scaled to fit, in place of the window."""
    left, top, right, bottom = box(image, window)
    changed = image.convert("RGB").copy()
    changed.paste(piece.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    return changed


def box(image: Image.Image, window: Window) -> tuple[int, int, int, int]:
    """The window in pixels: left, top, right, bottom; at least one pixel wide and high."""
    left, top = round(window.left * image.width), round(window.top * image.height)
    right, bottom = round(window.right * image.width), round(window.bottom * image.height)
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def replaced(items: Sequence[Item], number: int, item: Item) -> list[Item]:
    """The items with one of them exchanged."""
    return [item if index == number else other for index, other in enumerate(items)]
