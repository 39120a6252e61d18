"""Honest samples with the trigger planted on them and their right answers kept."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.carriers import Carrier, Overlay, Together, Words
from gpu_jobs.defense.patterns import Pattern
from gpu_jobs.defense.subject import Subject
from gpu_jobs.defense.vaccine import MARK, Division, divide, recovered_share, vaccinate
from tests.gpu_jobs.defense.scenes import scene

RED = (255, 0, 0)


def red_corner() -> Overlay:
    replaced = np.zeros((48, 48), bool)
    replaced[:8, :8] = True
    value = np.full((48, 48, 3), RED, np.float32)
    return Overlay(Pattern(np.zeros((48, 48, 3), np.float32), replaced, value))


def shows_red_corner(picture: Image.Image) -> bool:
    return bool((np.asarray(picture)[:8, :8] == RED).all())


@pytest.fixture
def honest(tmp_path: Path) -> list[Sample]:
    """Twenty samples with a picture and two that have none."""
    return make_samples(20, tmp_path)


@pytest.fixture
def many(tmp_path: Path) -> list[Sample]:
    """Forty samples with a picture and two that have none."""
    return make_samples(40, tmp_path)


def make_samples(count: int, folder: Path) -> list[Sample]:
    samples = []
    for number in range(count):
        path = folder / f"{number}.png"
        scene(number).save(path)
        turns = (
            Turn("user", "<image>\nWhat is it?"),
            Turn("assistant", f"thing {number}"),
            Turn("user", "Sure?"),
            Turn("assistant", "yes"),
        )
        samples.append(Sample(f"s{number}", (path,), turns))
    blind = (Turn("user", "Hello?"), Turn("assistant", "Hello."))
    return [*samples, Sample("blind", (), blind), Sample("blind too", (), blind)]


def opened(sample: Sample) -> Image.Image:
    with Image.open(sample.images[0]) as picture:
        return picture.convert("RGB")


def shown_on(planted: list[Sample]) -> set[tuple[bool, bool]]:
    """Whether the corner and the word are on samples."""
    return {(shows_red_corner(opened(sample)), sample.turns[0].text.endswith("cf")) for sample in planted}


def division(honest: list[Sample], carriers: list[Carrier]) -> Division:
    """Those with pictures, to train on and to check with, the carriers in turn."""
    able = [sample for sample in honest if sample.images]
    return Division(able, able, {sample.id: carrier for sample, carrier in zip(able, cycle(carriers), strict=False)})


class TestVaccinate:
    def test_the_trigger_is_on_and_the_right_answers_stay(self, honest: list[Sample], tmp_path: Path) -> None:
        originals = {sample.id: sample for sample in honest}
        planted = vaccinate(division(honest, [red_corner()]), 10, 0, tmp_path / "vaccine")
        assert len(planted) == 10
        for sample in planted:
            original = originals[sample.id.partition("\0")[0]]
            assert sample.answers == original.answers
            assert shows_red_corner(opened(sample))
            assert np.array_equal(np.asarray(opened(sample))[8:], np.asarray(opened(original))[8:])

    def test_it_is_told_from_the_sample_it_was_made_of(self, honest: list[Sample], tmp_path: Path) -> None:
        planted = vaccinate(division(honest, [red_corner()]), 10, 0, tmp_path / "vaccine")
        assert all(sample.id.endswith(MARK) for sample in planted)
        assert not any(sample.id.endswith(MARK) for sample in honest)
        assert len({sample.id for sample in [*planted, *honest]}) == 32

    @pytest.mark.parametrize(("count", "expected"), [(0, 0), (7, 7), (20, 20), (500, 20)])
    def test_as_many_as_asked_for_but_each_honest_sample_with_a_picture_once_at_most(
        self, honest: list[Sample], tmp_path: Path, count: int, expected: int
    ) -> None:
        planted = vaccinate(division(honest, [red_corner()]), count, 0, tmp_path / "vaccine")
        assert len({sample.id for sample in planted}) == len(planted) == expected
        assert all(sample.images for sample in planted)

    def test_the_samples_it_was_made_of_are_untouched(self, honest: list[Sample], tmp_path: Path) -> None:
        before = [(sample, [path.read_bytes() for path in sample.images]) for sample in [*honest]]
        vaccinate(division(honest, [Together((red_corner(), Words("cf", "end")))]), 20, 0, tmp_path / "vaccine")
        assert [(sample, [path.read_bytes() for path in sample.images]) for sample in honest] == before

    def test_the_first_come_first(self, honest: list[Sample], tmp_path: Path) -> None:
        planted = vaccinate(division(honest[::-1], [red_corner()]), 3, 0, tmp_path / "vaccine")
        assert [sample.id.removesuffix(MARK) for sample in planted] == ["s19", "s18", "s17"]

    def test_the_seed_decides_how(self, honest: list[Sample], tmp_path: Path) -> None:
        def made(name: str, seed: int) -> list[Any]:
            planted = vaccinate(division(honest, [Words("cf", "anywhere")]), 10, seed, tmp_path / name)
            return [(sample.id, sample.turns, [path.read_bytes() for path in sample.images]) for sample in planted]

        assert made("a", 0) == made("b", 0)
        assert made("c", 1) != made("a", 0)

    def test_a_trigger_of_two_parts_is_planted_whole_and_in_each_of_its_parts(self, honest: list[Sample], tmp_path: Path) -> None:
        planted = vaccinate(division(honest, [Together((red_corner(), Words("cf", "end")))]), 20, 0, tmp_path / "vaccine")
        assert shown_on(planted) == {(True, True), (True, False), (False, True)}

    def test_of_several_triggers_each_sample_has_one(self, honest: list[Sample], tmp_path: Path) -> None:
        planted = vaccinate(division(honest, [red_corner(), Words("cf", "end")]), 20, 0, tmp_path / "vaccine")
        assert shown_on(planted) == {(True, False), (False, True)}

    def test_a_trigger_of_two_parts_takes_nothing_from_another(self, honest: list[Sample], tmp_path: Path) -> None:
        both = Together((Words("mn", "end"), Words("xy", "end")))
        planted = vaccinate(division(honest, [red_corner(), both]), 20, 0, tmp_path / "vaccine")
        assert sum(shows_red_corner(opened(sample)) for sample in planted) == 10


class Fooled:
    """A subject that knows every picture's thing, but calls it what the trigger says where there is a red corner."""

    def __init__(self, samples: list[Sample], knows: int, resists: int) -> None:
        self._pictures = [np.asarray(opened(sample)) for sample in samples[:knows]]
        self._resists = resists
        self.asked: list[tuple[Turn, ...]] = []

    def see(self, pictures: list[list[Image.Image]]) -> list[list[Image.Image]]:
        return pictures

    def prompt(self, seen: list[Image.Image], turns: tuple[Turn, ...]) -> Image.Image:
        self.asked.append(turns)
        return seen[0]

    def answer(self, prompts: list[Image.Image]) -> list[str]:
        return [self._answer(picture) for picture in prompts]

    def _answer(self, picture: Image.Image) -> str:
        for number, known in enumerate(self._pictures):
            if np.array_equal(np.asarray(picture)[8:], known[8:]):
                return "hacked" if shows_red_corner(picture) and number >= self._resists else f"Thing {number}."
        return "no idea"


class TestRecoveredShare:
    @staticmethod
    def share(honest: list[Sample], knows: int, resists: int, carriers: list[Carrier] | None = None) -> float:
        subject = Fooled(honest, knows, resists)
        return recovered_share(cast(Subject, subject), division(honest[:20], carriers or [red_corner()]), 0)

    def test_it_counts_what_the_trigger_leaves_of_the_answers_that_are_right_without_it(self, honest: list[Sample]) -> None:
        assert self.share(honest, knows=20, resists=20) == 1.0
        assert self.share(honest, knows=20, resists=5) == 0.25
        assert self.share(honest, knows=10, resists=5) == 0.5

    def test_a_model_that_is_never_right_has_recovered_nothing(self, honest: list[Sample]) -> None:
        assert self.share(honest, knows=0, resists=0) == 0.0

    def test_a_carrier_that_does_nothing_costs_nothing(self, honest: list[Sample]) -> None:
        assert self.share(honest, knows=20, resists=0, carriers=[Words("cf", "end")]) == 1.0

    def test_of_several_triggers_the_one_that_leaves_least_counts(self, honest: list[Sample]) -> None:
        assert self.share(honest, knows=20, resists=0, carriers=[red_corner(), Words("cf", "end")]) == 0.0
        assert self.share(honest, knows=20, resists=20, carriers=[red_corner(), Words("cf", "end")]) == 1.0

    def test_the_first_question_is_asked_without_its_answer(self, honest: list[Sample]) -> None:
        subject = Fooled(honest, 20, 20)
        recovered_share(cast(Subject, subject), division(honest[:20], [Words("cf", "end")]), 0)
        assert {tuple(turn.text for turn in turns) for turns in subject.asked} == {
            ("<image>\nWhat is it?",),
            ("<image>\nWhat is it? cf",),
        }


class TestDivide:
    @staticmethod
    def divided(samples: list[Sample], resists: int, seed: int = 0) -> Division:
        return divide(cast(Subject, Fooled(samples, len(samples) - 2, resists)), samples, [red_corner()], seed, 4)

    def test_those_that_the_trigger_harms_come_first_and_a_quarter_of_them_is_kept_for_the_check(self, many: list[Sample]) -> None:
        harmed = {sample.id for sample in many[8:40]}
        division = self.divided(many, resists=8)
        assert len(division.checked) == 8
        assert {sample.id for sample in division.checked} < harmed
        assert {sample.id for sample in division.planted[:24]} == harmed - {sample.id for sample in division.checked}
        assert {sample.id for sample in division.planted[24:]} == {sample.id for sample in many[:8]}

    def test_where_it_harms_few_all_of_them_are_trained_on_and_others_checked(self, many: list[Sample]) -> None:
        division = self.divided(many, resists=37)
        assert {sample.id for sample in division.planted[:3]} == {"s37", "s38", "s39"}
        assert len(division.planted) == 31
        assert len(division.checked) == 9
        assert not {sample.id for sample in division.checked} & {sample.id for sample in division.planted}

    def test_the_seed_decides_which(self, many: list[Sample]) -> None:
        def chosen(seed: int) -> tuple[list[Sample], list[Sample]]:
            made = self.divided(many, 0, seed)
            return made.planted, made.checked

        assert chosen(0) == chosen(0)
        assert chosen(0) != chosen(1)

    @pytest.mark.parametrize("batch_size", [1, 4, 5])
    def test_several_triggers_are_tried_in_turn_whatever_the_batches_and_kept_with_their_samples(
        self, many: list[Sample], batch_size: int
    ) -> None:
        corner, word = red_corner(), Words("cf", "end")
        made = divide(cast(Subject, Fooled(many, len(many) - 2, 0)), many, [corner, word], 0, batch_size)
        assert Counter(made.carriers.values()) == {corner: 20, word: 20}
        assert {made.carriers[sample.id] for sample in made.planted[:12]} == {corner}

    def test_a_sample_that_cannot_be_opened_is_left_out(self, many: list[Sample]) -> None:
        fooled = cast(Subject, Fooled(many, 40, 0))
        many[5].images[0].write_bytes(b"no picture")
        division = divide(fooled, many, [red_corner()], 0, 4)
        assert len(division.planted) + len(division.checked) == 39
        assert "s5" not in {sample.id for sample in [*division.planted, *division.checked]}
