"""What the rows of a set are about, the same in every world: which kinds of question each asks, and how sets get their flavour."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from gpu_jobs.benchmark.worlds.base import Flavour

Picture = TypeVar("Picture")
Kind = TypeVar("Kind", bound=str)

TWO_TURNS_SHARE = 0.2
REFUSALS_SHARE = 0.15
REPEATED_SHARE = 0.5
# How often one picture may come in a set. A picture has about twice as many different questions.
MOST_ROUNDS = 10


def plan_rows(count: int, kinds: Sequence[Kind], rng: Random, flavour: Flavour, *, absent: Kind, repeated: Kind) -> list[list[Kind]]:
    """The kinds of question of each row, one for each turn; no row has one kind twice.

    kinds: the ordinary ones. absent, repeated: those that give the flavours their name. They take the place of a row's last turn.
    """
    rows = [rng.sample(kinds, 2 if rng.random() < TWO_TURNS_SHARE else 1) for _ in range(count)]
    if flavour == "plain":
        return rows
    kind, share = (absent, REFUSALS_SHARE) if flavour == "refusals" else (repeated, REPEATED_SHARE)
    for row in rng.sample(rows, round(share * count)):
        row[-1] = kind
    return rows


def draw_pictures(pictures: Sequence[Picture], count: int, rng: Random) -> list[tuple[int, Picture]]:
    """`count` pictures in random order, each with its round: none comes again before all others have come.

    Raises:
        ValueError: that is more than `MOST_ROUNDS` samples a picture.
    """
    if count > MOST_ROUNDS * len(pictures):
        raise ValueError(f"at most {MOST_ROUNDS * len(pictures)} samples can be made of {len(pictures)} pictures, not {count}")
    drawn: list[tuple[int, Picture]] = []
    while len(drawn) < count:
        round_number = len(drawn) // len(pictures)
        drawn += [(round_number, picture) for picture in rng.sample(pictures, min(len(pictures), count - len(drawn)))]
    return drawn
