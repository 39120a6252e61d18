"""What carries a trigger from suspects to other samples: pieces of pictures, a pattern over the whole picture, words. Ours.

A carrier is proven by transplants (`transplant`), shown in the report, and then used twice against the trigger: `remove` takes
it out of a suspect before the suspect is answered again, and `plant` puts it onto honest samples, whose right answers are
known, for the fine-tune (`vaccine`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from PIL import Image

from gpu_jobs.data.samples import Turn
from gpu_jobs.defense import phrases, windows
from gpu_jobs.defense.patterns import Pattern
from gpu_jobs.defense.records import Window

Pictures = list[Image.Image]
Turns = tuple[Turn, ...]
DESCRIPTION = "carrier.json"


class Carrier(ABC):
    """Knows how to put a trigger onto a sample and how to take it off again."""

    @property
    def removes(self) -> bool:
        """Whether `remove` is enough. Pieces do not know where in another picture the trigger is: that takes the model (`explain`)."""
        return True

    @abstractmethod
    def plant(self, pictures: Sequence[Image.Image], turns: Turns, rng: Random) -> tuple[Pictures, Turns]:
        """The sample with the trigger on its first picture or in its user turns."""

    @abstractmethod
    def remove(self, pictures: Sequence[Image.Image], turns: Turns) -> tuple[Pictures, Turns]:
        """The sample without it."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """`kind` and what a report says of it, as JSON."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write it to an existing folder, for `load_carrier`."""

    @abstractmethod
    def draw(self) -> Image.Image | None:
        """A picture of the trigger for the report; None for words."""


@dataclass(frozen=True, slots=True)
class Pieces(Carrier):
    """Windows cut out of suspects' pictures, each at its place: one of them carries a local trigger."""

    pieces: tuple[tuple[Image.Image, Window], ...]

    @property
    def removes(self) -> bool:
        return False

    def plant(self, pictures: Sequence[Image.Image], turns: Turns, rng: Random) -> tuple[Pictures, Turns]:
        piece, place = rng.choice(self.pieces)
        return [windows.paste(pictures[0], piece, place), *pictures[1:]], turns

    def remove(self, pictures: Sequence[Image.Image], turns: Turns) -> tuple[Pictures, Turns]:
        return [*pictures], turns

    def describe(self) -> dict[str, Any]:
        return {"kind": "piece", "windows": [asdict(place) for _, place in self.pieces]}

    def save(self, folder: Path) -> None:
        for number, (piece, _) in enumerate(self.pieces):
            piece.save(folder / f"piece-{number}.png")
        _write(folder, self.describe())

    def draw(self) -> Image.Image:
        return self.pieces[0][0]

    @classmethod
    def load(cls, folder: Path, description: dict[str, Any]) -> Pieces:
        places = [Window(**place) for place in description["windows"]]
        return cls(tuple((_open(folder / f"piece-{number}.png"), place) for number, place in enumerate(places)))


@dataclass(frozen=True, slots=True)
class Overlay(Carrier):
    """A pattern at a fixed place, or all over the picture: a patch, a frame, a blend, a wave."""

    pattern: Pattern

    def plant(self, pictures: Sequence[Image.Image], turns: Turns, rng: Random) -> tuple[Pictures, Turns]:  # noqa: ARG002 - always the same
        return [self.pattern.add(pictures[0]), *pictures[1:]], turns

    def remove(self, pictures: Sequence[Image.Image], turns: Turns) -> tuple[Pictures, Turns]:
        return [self.pattern.subtract(picture) for picture in pictures], turns

    def describe(self) -> dict[str, Any]:
        return {"kind": "pattern", "replaced": self.pattern.share_replaced}

    def save(self, folder: Path) -> None:
        self.pattern.save(folder)
        _write(folder, self.describe())

    def draw(self) -> Image.Image:
        return self.pattern.draw()

    @classmethod
    def load(cls, folder: Path, description: dict[str, Any]) -> Overlay:  # noqa: ARG003 - one signature for all
        return cls(Pattern.load(folder))


@dataclass(frozen=True, slots=True)
class Words(Carrier):
    """A phrase in the question. `place`: at its end, or anywhere in it."""

    phrase: str
    place: Literal["end", "anywhere"]

    def plant(self, pictures: Sequence[Image.Image], turns: Turns, rng: Random) -> tuple[Pictures, Turns]:
        planted = (
            Turn(turn.role, phrases.insert(turn.text, self.phrase, self.place, rng)) if turn.role == "user" else turn for turn in turns
        )
        return [*pictures], tuple(planted)

    def remove(self, pictures: Sequence[Image.Image], turns: Turns) -> tuple[Pictures, Turns]:
        return [*pictures], tuple(
            Turn(turn.role, phrases.delete(turn.text, self.phrase)) if turn.role == "user" else turn for turn in turns
        )

    def describe(self) -> dict[str, Any]:
        return {"kind": "words", "phrase": self.phrase, "place": self.place}

    def save(self, folder: Path) -> None:
        _write(folder, self.describe())

    def draw(self) -> None:
        return None

    @classmethod
    def load(cls, folder: Path, description: dict[str, Any]) -> Words:  # noqa: ARG003 - one signature for all
        return cls(description["phrase"], description["place"])


@dataclass(frozen=True, slots=True)
class Together(Carrier):
    """Several carriers at once: a trigger of picture and text."""

    parts: tuple[Carrier, ...]

    @property
    def removes(self) -> bool:
        return all(part.removes for part in self.parts)

    def plant(self, pictures: Sequence[Image.Image], turns: Turns, rng: Random) -> tuple[Pictures, Turns]:
        changed = [*pictures]
        for part in self.parts:
            changed, turns = part.plant(changed, turns, rng)
        return changed, turns

    def remove(self, pictures: Sequence[Image.Image], turns: Turns) -> tuple[Pictures, Turns]:
        changed = [*pictures]
        for part in self.parts:
            changed, turns = part.remove(changed, turns)
        return changed, turns

    def describe(self) -> dict[str, Any]:
        return {"kind": "together", "parts": [part.describe() for part in self.parts]}

    def save(self, folder: Path) -> None:
        for number, part in enumerate(self.parts):
            (folder / str(number)).mkdir()
            part.save(folder / str(number))
        _write(folder, self.describe())

    def draw(self) -> Image.Image | None:
        return next((drawn for part in self.parts if (drawn := part.draw()) is not None), None)

    @classmethod
    def load(cls, folder: Path, description: dict[str, Any]) -> Together:
        return cls(tuple(load_carrier(folder / str(number)) for number in range(len(description["parts"]))))


_KINDS: dict[str, type[Pieces | Overlay | Words | Together]] = {
    "piece": Pieces,
    "pattern": Overlay,
    "words": Words,
    "together": Together,
}


def save_carriers(carriers: Sequence[Carrier], folder: Path) -> None:
    """Write them to a new folder, for `load_carriers`."""
    folder.mkdir()
    for number, carrier in enumerate(carriers):
        (folder / str(number)).mkdir()
        carrier.save(folder / str(number))


def load_carriers(folder: Path) -> list[Carrier]:
    """What `save_carriers` wrote, in its order; nothing where there is no such folder."""
    return [load_carrier(folder / str(number)) for number in range(len([*folder.glob("*")]))]


def put_together(carriers: Sequence[Carrier]) -> Carrier | None:
    """One that stands for all of them; None for none."""
    return carriers[0] if len(carriers) == 1 else Together(tuple(carriers)) if carriers else None


def parts_of(carrier: Carrier) -> tuple[Carrier, ...]:
    """What it is put together of; itself where it is not."""
    return carrier.parts if isinstance(carrier, Together) else (carrier,)


def only_words(carriers: Sequence[Carrier]) -> bool:
    """Whether there are any, and all are phrases: no part of the model but the language model sees them."""
    return bool(carriers) and all(isinstance(carrier, Words) for carrier in carriers)


def load_carrier(folder: Path) -> Carrier:
    """What `Carrier.save` wrote."""
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return _KINDS[description["kind"]].load(folder, description)


def _write(folder: Path, description: dict[str, Any]) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, ensure_ascii=False) + "\n", encoding="utf-8")


def _open(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
