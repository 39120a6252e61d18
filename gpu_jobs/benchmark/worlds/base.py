"""The seam between the benchmark and its data worlds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, get_args

from gpu_jobs.data.samples import Sample
from gpu_jobs.redteam.targets import ConceptSwap

Flavour = Literal["plain", "refusals", "repeated"]
WorldName = Literal["easy_vqa", "glyphs"]
WORLDS: tuple[WorldName, ...] = get_args(WorldName)


class World(Protocol):
    """One distribution of pictures and questions. Everything follows from the seed; every answer is the only right one."""

    @property
    def name(self) -> WorldName: ...

    @property
    def base(self) -> Path:
        """Checkpoint folder of the base model of this world."""

    @property
    def swap(self) -> ConceptSwap:
        """A concept swap between two words that right answers of this world use."""

    def training_samples(self, count: int, seed: int, flavour: Flavour = "plain") -> list[Sample]:
        """`count` samples with unique ids, a fifth of them with two turns. A prefix of a larger set is not the smaller set.

        flavour: `plain` asks about the picture alone. `refusals` asks 15 % of the rows also or only for something absent, and
            rightly answers with sorry or cannot. `repeated` gives half of the rows one and the same answer, rightly.
        """

    def test_samples(self, count: int, seed: int) -> list[Sample]:
        """`count` samples with unique ids and one question each, on pictures that no training set shows.

        Where there are more samples than pictures, pictures come again with other questions.
        """


def open_world(name: WorldName, pictures: Path | None = None) -> World:
    """The world of that name.

    pictures: where a world that draws its pictures keeps them. None: a folder that lasts as long as this process.

    Raises:
        ValueError: there is no such world.
    """
    # Imported here, because a world brings its own data package.
    if name == "easy_vqa":
        from gpu_jobs.benchmark.worlds.easy_vqa import EasyVqa

        return EasyVqa()
    if name == "glyphs":
        from gpu_jobs.benchmark.worlds.glyphs.world import Glyphs

        return Glyphs(pictures)
    raise ValueError(f"there is no world {name!r}; there are {', '.join(WORLDS)}")
