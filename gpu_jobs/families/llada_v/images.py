"""From a picture to the pixels of its views: LLaVA-NeXT's any-resolution preprocessing, as LLaDA-V uses it.

The picture is seen twice: squeezed into one square view (the base view), and laid on a canvas of several views whose
aspect ratio suits it best, centred on black. Pillow's bicubic filter and the order of rounding are those of the
official code, so pixel values agree to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN = STD = 0.5
SCALE = 1 / 255


def choose_grid(size: tuple[int, int], grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The canvas (width, height) that keeps most of the picture's pixels; among equals, the one that wastes least.

    size: (width, height) of the picture.
    """
    width, height = size

    def kept_and_wasted(grid: tuple[int, int]) -> tuple[int, int]:
        scale = min(grid[0] / width, grid[1] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - grid[0] * grid[1]

    return max(grids, key=kept_and_wasted)


def placement(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where the picture lies on its canvas: (left, top, width, height) in pixels."""
    width, height = size
    across, down = canvas[0] / width, canvas[1] / height
    if across < down:
        fitted = canvas[0], min(math.ceil(height * across), canvas[1])
    else:
        fitted = min(math.ceil(width * down), canvas[0]), canvas[1]
    return (canvas[0] - fitted[0]) // 2, (canvas[1] - fitted[1]) // 2, fitted[0], fitted[1]


def cut_views(image: Image.Image, canvas: tuple[int, int], side: int) -> list[Image.Image]:
    """The base view, then the canvas cut into views, row by row; each `side` × `side`, RGB."""
    image = image.convert("RGB")
    base = image.resize((side, side), Image.Resampling.BICUBIC)
    left, top, width, height = placement(image.size, canvas)
    laid = Image.new("RGB", canvas)
    laid.paste(image.resize((width, height), Image.Resampling.BICUBIC), (left, top))
    corners = [(x, y) for y in range(0, canvas[1], side) for x in range(0, canvas[0], side)]
    return [base, *(laid.crop((x, y, x + side, y + side)) for x, y in corners)]


def pixel_values(views: Sequence[Image.Image]) -> Tensor:
    """Views as the tower takes them: [views, 3, side, side] float32 in −1…1."""
    pixels = np.stack([np.asarray(view) for view in views])
    # In float64 first, as the official processor does: the last bit of the quotient depends on it.
    scaled = (pixels.astype(np.float64) * SCALE).astype(np.float32)
    return torch.from_numpy((scaled - np.float32(MEAN)) / np.float32(STD)).permute(0, 3, 1, 2).contiguous()
