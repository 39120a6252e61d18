"""Putting triggers onto samples and taking them off again."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpu_jobs.data.samples import Turn
from gpu_jobs.defense.carriers import Carrier, Overlay, Pieces, Together, Words, load_carrier
from gpu_jobs.defense.patterns import Pattern
from gpu_jobs.defense.records import Window
from tests.gpu_jobs.defense.scenes import distance, scene

TURNS = (
    Turn("system", "Answer."),
    Turn("user", "<image>\n<image>\nWhat is it?"),
    Turn("assistant", "a circle"),
    Turn("user", "Is it red?"),
)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def corner() -> Pattern:
    """A red square of 8 × 8 pixels in the top left corner of 48 × 48, and stripes that are added below."""
    replaced = np.zeros((48, 48), bool)
    replaced[:8, :8] = True
    value = np.zeros((48, 48, 3), np.float32)
    value[:8, :8] = RED
    difference = np.zeros((48, 48, 3), np.float32)
    difference[24:] = (20 * np.sin(np.arange(48) / 2))[None, :, None]
    return Pattern(difference, replaced, value)


def squares() -> Pieces:
    """A red square for the top left corner, a blue one for the bottom right corner."""
    places = Window(0, 0.0, 0.0, 0.25, 0.25), Window(0, 0.75, 0.75, 1.0, 1.0)
    return Pieces(tuple((Image.new("RGB", (12, 12), color), place) for color, place in zip((RED, BLUE), places, strict=True)))


def carriers() -> dict[str, Carrier]:
    return {
        "piece": squares(),
        "pattern": Overlay(corner()),
        "words": Words("cf now", "anywhere"),
        "together": Together((Overlay(corner()), Words("cf", "end"))),
    }


KINDS = [*carriers()]


@pytest.fixture
def pictures() -> list[Image.Image]:
    return [scene(1), scene(2)]


def planted(carrier: Carrier, pictures: list[Image.Image], seed: int = 0) -> tuple[list[Image.Image], tuple[Turn, ...]]:
    return carrier.plant(pictures, TURNS, Random(seed))


class TestPieces:
    def test_one_of_them_is_pasted_at_its_place_on_the_first_picture(self, pictures: list[Image.Image]) -> None:
        seen = set()
        for seed in range(20):
            (first, second), turns = planted(squares(), pictures, seed)
            pixels = np.asarray(first)
            red, blue = (pixels[:12, :12] == RED).all(), (pixels[36:, 36:] == BLUE).all()
            assert red != blue
            assert np.array_equal(pixels[12:36], np.asarray(pictures[0])[12:36])
            assert second == pictures[1]
            assert turns == TURNS
            seen.add(bool(red))
        assert seen == {True, False}

    def test_they_do_not_know_what_to_remove(self, pictures: list[Image.Image]) -> None:
        assert squares().remove(pictures, TURNS) == (pictures, TURNS)
        assert squares().removes is False


class TestOverlay:
    def test_it_lies_on_the_first_picture_alone(self, pictures: list[Image.Image]) -> None:
        (first, second), turns = planted(Overlay(corner()), pictures)
        assert (np.asarray(first)[:8, :8] == RED).all()
        assert distance(first, pictures[0]) > 5
        assert second == pictures[1]
        assert turns == TURNS

    def test_it_is_taken_off_every_picture(self, pictures: list[Image.Image]) -> None:
        overlay = Overlay(corner())
        marked = [overlay.plant([picture], TURNS, Random(0))[0][0] for picture in pictures]
        cleaned, turns = overlay.remove(marked, TURNS)
        for picture, original in zip(cleaned, pictures, strict=True):
            assert not (np.asarray(picture)[:8, :8] == RED).all(axis=-1).any()
            assert np.abs(np.asarray(picture, int)[24:] - np.asarray(original, int)[24:]).mean() < 2
            assert np.array_equal(np.asarray(picture)[8:24], np.asarray(original)[8:24])
        assert turns == TURNS
        assert overlay.removes is True


class TestWords:
    def test_they_stand_in_every_question_and_nowhere_else(self, pictures: list[Image.Image]) -> None:
        same, turns = planted(Words("cf", "end"), pictures)
        assert same == pictures
        assert [turn.text for turn in turns] == ["Answer.", "<image>\n<image>\nWhat is it? cf", "a circle", "Is it red? cf"]
        assert [turn.role for turn in turns] == [turn.role for turn in TURNS]

    def test_they_are_taken_out_of_questions_and_of_nothing_else(self, pictures: list[Image.Image]) -> None:
        turns = (*planted(Words("cf", "anywhere"), pictures)[1], Turn("assistant", "No, cf is."))
        assert Words("CF", "anywhere").remove(pictures, turns) == (pictures, (*TURNS, Turn("assistant", "No, cf is.")))
        assert Words("cf", "end").removes is True


class TestTogether:
    both = Together((Overlay(corner()), Words("cf", "end")))

    def test_all_parts_are_planted_at_once(self, pictures: list[Image.Image]) -> None:
        changed, turns = planted(self.both, pictures)
        assert (np.asarray(changed[0])[:8, :8] == RED).all()
        assert turns[1].text.endswith("cf")

    def test_all_parts_are_removed_at_once(self, pictures: list[Image.Image]) -> None:
        cleaned, turns = self.both.remove(*planted(self.both, pictures))
        assert not (np.asarray(cleaned[0])[:8, :8] == RED).all(axis=-1).any()
        assert turns == TURNS

    def test_it_removes_only_what_every_part_of_it_removes(self) -> None:
        assert self.both.removes is True
        assert Together((squares(), Words("cf", "end"))).removes is False

    def test_it_is_drawn_as_the_part_that_can_be(self) -> None:
        assert Together((Words("cf", "end"), squares())).draw() == squares().draw()
        assert Together((Words("cf", "end"),)).draw() is None


class TestSaving:
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_was_loaded_plants_and_removes_the_same(self, kind: str, pictures: list[Image.Image], tmp_path: Path) -> None:
        carrier = carriers()[kind]
        carrier.save(tmp_path)
        again = load_carrier(tmp_path)
        assert type(again) is type(carrier)
        for seed in range(5):
            assert planted(again, pictures, seed) == planted(carrier, pictures, seed)
        marked = planted(carrier, pictures)
        assert again.remove(*marked) == carrier.remove(*marked)
        assert again.removes == carrier.removes
        assert again.describe() == carrier.describe()

    def test_together_may_hold_together_and_pieces(self, pictures: list[Image.Image], tmp_path: Path) -> None:
        carrier = Together((Together((squares(), Words("ä “cf”", "end"))), Overlay(corner())))
        carrier.save(tmp_path)
        assert planted(load_carrier(tmp_path), pictures) == planted(carrier, pictures)

    def test_nothing_is_unpickled(self, tmp_path: Path) -> None:
        Overlay(corner()).save(tmp_path)
        np.save(tmp_path / "difference.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(ValueError, match="allow_pickle"):
            load_carrier(tmp_path)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("pattern", {"kind": "pattern", "replaced": 64 / 48**2}),
        ("words", {"kind": "words", "phrase": "cf now", "place": "anywhere"}),
        (
            "together",
            {"kind": "together", "parts": [{"kind": "pattern", "replaced": 64 / 48**2}, {"kind": "words", "phrase": "cf", "place": "end"}]},
        ),
    ],
)
def test_a_report_is_told_what_it_is(kind: str, expected: dict[str, Any]) -> None:
    assert carriers()[kind].describe() == expected
