"""All that the training of a base has to know about the world that it is to answer questions about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from PIL import Image
from torch import Tensor

from gpu_jobs.data.samples import Sample

Picture = TypeVar("Picture")
Kind = TypeVar("Kind", bound=str)


@dataclass(frozen=True, slots=True)
class Erasing:
    """Random erasing: the share of pictures that lose a square, and its shortest and longest side in pixels."""

    share: float = 0.5
    side: tuple[int, int] = (4, 16)


@dataclass(frozen=True, slots=True)
class DenseLabel(Generic[Picture]):
    """Something that every output token of the tower has to name: one of `classes`.

    targets: pictures → [pictures, tokens] int64, which class is right for each token; [pictures, 1] where all tokens name the same.
    """

    classes: int
    targets: Callable[[Sequence[Picture]], Tensor]


@dataclass(frozen=True, slots=True)
class Curriculum(Generic[Picture, Kind]):
    """A world as its base meets it.

    texts: every text that the world can produce, once; the tokenizer is trained on them.
    training, test: its pictures.
    open: a picture as RGB pixels, all of one size.
    labels: what the tower learns to see, by name.
    converse: a conversation about a picture with one question of each given kind.
    kinds: how often each kind of question is asked in training, relative to the others.
    groups: kinds that the figures also sum up, by the group's name.
    packages: what the pictures come from, for the log.
    mirrored: whether the mirror image of a picture has the same right answers.
    tower_steps, answer_steps: of the first and of the second stage.
    """

    texts: Sequence[str]
    training: Sequence[Picture]
    test: Sequence[Picture]
    open: Callable[[Picture], Image.Image]
    labels: Mapping[str, DenseLabel[Picture]]
    converse: Callable[[Picture, Sequence[Kind], Random], Sample]
    kinds: Mapping[Kind, float]
    packages: tuple[str, ...]
    groups: Mapping[str, Sequence[Kind]] = field(default_factory=dict)
    mirrored: bool = True
    erasing: Erasing = field(default_factory=Erasing)
    tower_steps: int = 4000
    answer_steps: int = 2000
