"""What the pictures of a group have in common, pixel by pixel, that other pictures lack: patches, frames, blends, waves. Ours.

Two ways to share a pattern are told apart at each pixel. Where the group's pictures hardly vary though others do, the
content was replaced (a patch, a frame). Elsewhere something may have been added (a blend, a wave); averaging over many
pictures leaves it and lets their contents cancel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter

Pixels = NDArray[np.float32]

# Replaced: at most this share of the others' variance, and at least so many grey levels away from them.
STILL, AWAY = 0.1, 8.0
# Grey levels squared that even a plain background is taken to vary by.
NOISE = 25.0
# Side of the box whose mean is taken away, as a share of the shorter side: what is broader is content or light, not a pattern.
BROAD = 0.15
LARGEST = 384
_FILES = ("difference", "replaced", "value")


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """A pattern at the size that its pictures had.

    difference: [height, width, 3] what is added, in grey levels.
    replaced: [height, width] bool, where the picture is covered; value: [height, width, 3] by what.
    """

    difference: Pixels
    replaced: NDArray[np.bool_]
    value: Pixels

    @property
    def share_replaced(self) -> float:
        return float(self.replaced.mean())

    @property
    def local(self) -> Pattern:
        """What is replaced alone."""
        return Pattern(np.zeros_like(self.difference), self.replaced, self.value)

    @property
    def added(self) -> Pattern:
        """What is added alone."""
        return Pattern(self.difference, np.zeros_like(self.replaced), self.value)

    def add(self, picture: Image.Image) -> Image.Image:
        difference, replaced, value = self._at(picture.size)
        pixels = to_pixels(picture) + difference
        pixels[replaced] = value[replaced]
        return to_picture(pixels)

    def subtract(self, picture: Image.Image) -> Image.Image:
        """The picture without what was added, and with what was replaced filled by the median colour of its border."""
        difference, replaced, _ = self._at(picture.size)
        pixels = to_pixels(picture)
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        inside = np.concatenate([replaced[0], replaced[-1], replaced[:, 0], replaced[:, -1]])
        filling = np.median(edge[~inside] if not inside.all() else pixels.reshape(-1, 3), axis=0)
        pixels = pixels - difference
        pixels[replaced] = filling
        return to_picture(pixels)

    def match(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        """[pictures] how far each shows the pattern: about 1 where it is there, about 0 where it is not."""
        return np.array([self._match(picture) for picture in pictures])

    def _match(self, picture: Image.Image) -> float:
        difference, replaced, value = self._at(picture.size)
        pixels = to_pixels(picture)
        if replaced.any():
            away = np.abs(pixels[replaced] - value[replaced]).mean()
            return float(1 - away / AWAY / 4)
        energy = float((difference**2).sum())
        return float((sharpened(pixels) * difference).sum() / energy) if energy else 0.0

    def draw(self) -> Image.Image:
        """Grey where nothing happens, the value where it replaces, the difference in full contrast where it adds."""
        largest = max(float(np.abs(self.difference).max()), 1.0)
        pixels = 128 + self.difference * (127 / largest)
        pixels[self.replaced] = self.value[self.replaced]
        return to_picture(pixels)

    def save(self, folder: Path) -> None:
        for name in _FILES:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(*(np.load(folder / f"{name}.npy", allow_pickle=False) for name in _FILES))

    def _at(self, size: tuple[int, int]) -> tuple[Pixels, NDArray[np.bool_], Pixels]:
        if (size[1], size[0]) == self.replaced.shape:
            return self.difference, self.replaced, self.value
        covered = Image.fromarray(self.replaced).resize(size, Image.Resampling.NEAREST)
        return _resized(self.difference, size), np.asarray(covered, dtype=bool), _resized(self.value, size)


def find_pattern(group: Sequence[Image.Image], others: Sequence[Image.Image]) -> Pattern:
    """What the group's pictures share against the others'. Both are brought to the group's most common size, at most 384 px."""
    size = common_size(group)
    own, rest = at_size(group, size), at_size(others, size)  # [pictures, height, width, 3]
    middle = np.median(own, axis=0)
    still = own.var(axis=0).mean(axis=-1) < STILL * (rest.var(axis=0).mean(axis=-1) + NOISE)
    away = np.abs(middle - np.median(rest, axis=0)).mean(axis=-1) > AWAY
    added = sharpened(own.mean(axis=0)) - sharpened(rest.mean(axis=0))
    return Pattern(added.astype(np.float32), still & away, middle.astype(np.float32))


def common_size(pictures: Sequence[Image.Image]) -> tuple[int, int]:
    (width, height), _ = Counter(picture.size for picture in pictures).most_common(1)[0]
    scale = min(1.0, LARGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def at_size(pictures: Sequence[Image.Image], size: tuple[int, int]) -> Pixels:
    """[pictures, height, width, 3]."""
    return np.stack([to_pixels(p if p.size == size else p.convert("RGB").resize(size, Image.Resampling.BICUBIC)) for p in pictures])


def sharpened(pixels: NDArray[np.floating]) -> Pixels:
    """[height, width, 3] without what is broad."""
    side = max(3, round(BROAD * min(pixels.shape[:2])))
    broad: Pixels = uniform_filter(pixels, size=(side, side, 1))
    return np.asarray(pixels - broad, dtype=np.float32)


def to_pixels(picture: Image.Image) -> Pixels:
    """[height, width, 3] grey levels."""
    return np.asarray(picture.convert("RGB"), dtype=np.float32)


def to_picture(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    channels = [Image.fromarray(pixels[..., channel]).resize(size, Image.Resampling.BILINEAR) for channel in range(3)]
    return np.stack([np.asarray(channel, dtype=np.float32) for channel in channels], axis=-1)
