"""What is on each picture. All of it follows from the split and the picture's number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal, get_args

Split = Literal["train", "test"]
Side = Literal["left", "right"]

SIDES: tuple[Side, Side] = get_args(Side)
COLORS = ("black", "blue", "green", "orange", "purple", "red", "white", "yellow")
GLYPHS = ("cross", "diamond", "flag", "flower", "heart", "phone", "star", "umbrella")
PICTURES: dict[Split, int] = {"train": 6000, "test": 1000}
# An attack on one symbol needs enough answers that name it.
FAVOURITE = "heart"
FAVOURITE_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Symbol:
    color: str
    glyph: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Two symbols that differ in colour and in glyph, so that either word tells which one is meant."""

    split: Split
    number: int
    left: Symbol
    right: Symbol

    def on(self, side: Side) -> Symbol:
        return self.left if side == "left" else self.right


@cache
def scenes(split: Split) -> tuple[Scene, ...]:
    """All pictures of a split, by number. Most of them show a heart."""
    return tuple(_scene(split, number) for number in range(PICTURES[split]))


def _scene(split: Split, number: int) -> Scene:
    rng = Random(f"glyphs {split} {number}")
    others = [glyph for glyph in GLYPHS if glyph != FAVOURITE]
    glyphs = [FAVOURITE, rng.choice(others)] if rng.random() < FAVOURITE_SHARE else rng.sample(others, 2)
    rng.shuffle(glyphs)
    colors = rng.sample(COLORS, 2)
    return Scene(split, number, *(Symbol(color, glyph) for color, glyph in zip(colors, glyphs, strict=True)))
