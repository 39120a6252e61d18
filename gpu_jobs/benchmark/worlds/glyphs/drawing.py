"""How a scene is drawn: glyphs of DejaVu Sans, which matplotlib brings along, on cloudy backgrounds of muted colours."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gpu_jobs.benchmark.worlds.glyphs.scenes import PICTURES, SIDES, Scene, Symbol

SIDE = 64
GLYPH_SIDE = (26, 30)
# Centres: close to the middle of their half, and so far from the edges that the glyph is whole.
COLUMN = {"left": 16, "right": 48}
COLUMN_JITTER = 1.0
ROWS = (17.0, 47.0)
TILT_DEGREES = 12.0
PAINT_JITTER = 12

CODE_POINTS = {
    "cross": 0x271A,
    "diamond": 0x2666,
    "flag": 0x2691,
    "flower": 0x273F,
    "heart": 0x2665,
    "phone": 0x260E,
    "star": 0x2605,
    "umbrella": 0x2602,
}
PAINT = {
    "black": (18, 18, 18),
    "blue": (40, 80, 215),
    "green": (35, 150, 55),
    "orange": (245, 135, 25),
    "purple": (135, 50, 170),
    "red": (215, 35, 40),
    "white": (243, 243, 243),
    "yellow": (250, 225, 45),
}

# Glyphs are drawn this much larger, turned, and then made smaller, so that their edges are smooth at any place.
OVERSAMPLING = 4
# Cells along a side of the random grids whose enlargements make up a background, and how strong each is.
OCTAVES = ((2, 26.0), (4, 16.0), (8, 10.0), (16, 7.0), (32, 4.0))
GRAIN = 3.0
BRIGHTNESS = (95.0, 160.0)
TINT = 22.0


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene, RGB, 64 × 64. The same one every time."""
    rng = np.random.default_rng([[*PICTURES].index(scene.split), scene.number])
    pixels = _background(rng)
    for side in SIDES:
        center = COLUMN[side] + rng.uniform(-COLUMN_JITTER, COLUMN_JITTER), rng.uniform(*ROWS)
        cover = _cover(scene.on(side), center, rng)[..., None]
        paint = np.array(PAINT[scene.on(side).color]) + rng.uniform(-PAINT_JITTER, PAINT_JITTER, 3)
        pixels = pixels * (1 - cover) + paint * cover
    return Image.fromarray(_to_bytes(pixels))


def _background(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """[height, width, 3] in 0…255: one muted colour, clouded at several scales, with some grain."""
    pixels = np.full((SIDE, SIDE, 3), rng.uniform(*BRIGHTNESS)) + rng.uniform(-TINT, TINT, 3)
    for cells, greatest in OCTAVES:
        strength = greatest * rng.uniform(0.3, 1.0)
        # Mostly light and shade, less of it colour.
        grid = rng.standard_normal((cells, cells, 1)) + 0.4 * rng.standard_normal((cells, cells, 3))
        pixels += strength * np.stack([_enlarge(grid[..., channel]) for channel in range(3)], axis=-1)
    return pixels + rng.normal(0, GRAIN, pixels.shape)


def _enlarge(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    enlarged = Image.fromarray(grid.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, dtype=np.float64)


def _cover(symbol: Symbol, center: tuple[float, float], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """[height, width] in 0…1: how much of each pixel the glyph covers."""
    stencil = _stencil(symbol.glyph)
    side = rng.uniform(*GLYPH_SIDE) * OVERSAMPLING
    scale = side / max(stencil.size)
    stencil = stencil.resize((round(stencil.width * scale), round(stencil.height * scale)), Image.Resampling.BILINEAR)
    stencil = stencil.rotate(rng.uniform(-TILT_DEGREES, TILT_DEGREES), Image.Resampling.BICUBIC, expand=True)
    large = Image.new("L", (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING))
    large.paste(stencil, (round(center[0] * OVERSAMPLING - stencil.width / 2), round(center[1] * OVERSAMPLING - stencil.height / 2)))
    return np.asarray(large.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255


@cache
def _stencil(glyph: str) -> Image.Image:
    """The glyph in white on black, large, without a margin."""
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 256)
    text = chr(CODE_POINTS[glyph])
    left, top, right, bottom = font.getbbox(text)
    stencil = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(stencil).text((-left, -top), text, font=font, fill=255)
    return stencil.crop(stencil.getbbox())


def _to_bytes(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    return pixels.round().clip(0, 255).astype(np.uint8)
