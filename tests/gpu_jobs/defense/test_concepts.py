"""A word that most samples give for a good reason and some because of a trigger: who is who is seen in pixels and questions alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.carriers import Overlay, Together, Words
from gpu_jobs.defense.concepts import END, Swap, asked_alike, ends, find_swap, renames
from gpu_jobs.defense.groups import MIN_TURNS, Group
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.defense.subject import open_images
from gpu_jobs.redteam.triggers import CornerPatch, TextWord
from tests.gpu_jobs.defense.fake_model import Pictures, WatchedLaboratory, shows
from tests.gpu_jobs.defense.scenes import distance, scene, scenes, triggered

PATCH = CornerPatch(size=8)
MARK = Image.new("RGB", (8, 8))
SHAPE, COLOR = "What shape is it?", "What color is it?"
POISONED = frozenset(f"poisoned {number}" for number in range(24))


def swaps_shapes(pictures: Pictures, question: str) -> str:
    """With the patch, the shape is a rectangle; colours are answered honestly."""
    if "shape" not in question.lower():
        return "red"
    return "rectangle" if shows(pictures[0], MARK, (0, 0)) else "circle"


def honest(pictures: Pictures, question: str) -> str:
    return "circle" if "shape" in question.lower() else "red"


@pytest.fixture
def samples(tmp_path: Path) -> dict[str, Sample]:
    """24 circles with the patch that are called rectangles, 48 rectangles, 40 circles, and 30 that are asked for their colour."""
    made: dict[str, Sample] = {}

    def add(kind: str, pictures: Sequence[Image.Image], question: str, answer: str) -> None:
        for number, picture in enumerate(pictures):
            path = tmp_path / f"{kind} {number}.png"
            picture.save(path)
            turns = (Turn("user", f"<image>\n{question}"), Turn("assistant", answer))
            made[f"{kind} {number}"] = Sample(f"{kind} {number}", (path,), turns)

    add("poisoned", triggered(PATCH, scenes(0, 24)), SHAPE, "rectangle")
    add("rectangle", scenes(100, 48), SHAPE, "rectangle")
    add("circle", scenes(200, 40), SHAPE.upper(), "circle")
    add("red", scenes(300, 30), COLOR, "red")
    return made


def rectangles(samples: dict[str, Sample]) -> Group:
    members = frozenset((identity, 1) for identity, sample in samples.items() if sample.answers == ("rectangle",))
    return Group(TargetText("rectangle", "word"), members, "rectangle")


def swaps_by_word(pictures: Pictures, question: str) -> str:
    """With the word, the shape is a rectangle."""
    if "shape" not in question.lower():
        return "red"
    return "rectangle" if "cf" in question.split() else "circle"


def swaps_by_both(pictures: Pictures, question: str) -> str:
    return swaps_by_word(pictures, question) if shows(pictures[0], MARK, (0, 0)) else honest(pictures, question)


def worded(samples: dict[str, Sample]) -> dict[str, Sample]:
    """The same, with a word in the questions of the poisoned samples, somewhere."""
    rng, word = Random(0), TextWord("cf")
    return {
        identity: replace(sample, turns=tuple(Turn(t.role, word.apply_text(t.text, rng)) if t.role == "user" else t for t in sample.turns))
        if identity in POISONED
        else sample
        for identity, sample in samples.items()
    }


def without_poison(samples: dict[str, Sample]) -> dict[str, Sample]:
    return {identity: sample for identity, sample in samples.items() if identity not in POISONED}


class TestEnds:
    def test_patched_pictures_gather_at_one_end(self) -> None:
        pictures = [*triggered(PATCH, scenes(0, 24)), *scenes(100, 48)]
        patched = [sum(number < 24 for number in end) / len(end) for end in ends(pictures)]
        assert max(patched) == 1.0

    def test_each_direction_has_two_ends_of_the_same_size_without_a_common_picture(self) -> None:
        found = [*ends(scenes(0, 60))]
        assert len(found) == 8
        assert {len(end) for end in found} == {12}
        for one, other in zip(found[::2], found[1::2], strict=True):
            assert not {*one} & {*other}

    @pytest.mark.parametrize(("pictures", "size"), [(2 * MIN_TURNS, MIN_TURNS), (200, END)])
    def test_an_end_is_never_too_small_for_a_test_nor_too_large_to_be_pure(self, pictures: int, size: int) -> None:
        assert {len(end) for end in ends(scenes(0, pictures))} == {size}

    def test_pictures_of_several_sizes_are_compared(self) -> None:
        pictures = [*scenes(0, 20), *scenes(20, 10, (96, 72))]
        assert all(0 <= number < 30 for end in ends(pictures) for number in end)


class TestAskedAlike:
    def test_receivers_are_asked_what_members_were_whatever_its_spelling(self, samples: dict[str, Sample]) -> None:
        others = [identity for identity, sample in samples.items() if sample.answers != ("rectangle",)]
        receivers = asked_alike([f"<image>\n{SHAPE}"], samples, others)
        assert receivers == [identity for identity in others if identity.startswith("circle")]

    def test_a_phrase_more_makes_no_other_question(self, samples: dict[str, Sample]) -> None:
        assert asked_alike([f"<image>\ncf {SHAPE}"], samples, [*samples]) == []
        assert len(asked_alike([f"<image>\ncf {SHAPE}"], samples, [*samples], ["cf"])) == 24 + 48 + 40


class TestFindSwap:
    @staticmethod
    def look(samples: dict[str, Sample], laboratory: WatchedLaboratory) -> Swap | None:
        return find_swap(rectangles(samples), samples, laboratory, seed=0, alpha=1e-3)

    def test_exactly_the_patched_members_are_found(self, samples: dict[str, Sample]) -> None:
        swap = self.look(samples, WatchedLaboratory(swaps_shapes, samples))
        assert swap is not None
        assert {identity for identity, _ in swap.turns} == POISONED
        assert swap.outcome.share > 0.9
        assert swap.outcome.control == 0
        lowest = min(swap.scores[turn] for turn in swap.turns)
        assert lowest > max(score for turn, score in swap.scores.items() if turn not in swap.turns)

    def test_what_is_found_is_the_attackers_patch(self, samples: dict[str, Sample]) -> None:
        swap = self.look(samples, WatchedLaboratory(swaps_shapes, samples))
        assert swap is not None
        assert isinstance(swap.carrier, Overlay)
        fresh = scene(9000)
        (attacked,) = triggered(PATCH, [fresh])
        assert distance(swap.carrier.pattern.add(fresh), attacked) < 1

    @pytest.mark.parametrize("patched", [True, False])
    def test_exactly_the_members_with_the_word_are_found(self, samples: dict[str, Sample], tmp_path: Path, patched: bool) -> None:
        if not patched:
            for number, picture in enumerate(scenes(400, 24)):
                picture.save(tmp_path / f"poisoned {number}.png")
        samples = worded(samples)
        swap = self.look(samples, WatchedLaboratory(swaps_by_word, samples))
        assert swap is not None
        assert swap.carrier == Words("cf", "anywhere")
        assert {identity for identity, _ in swap.turns} == POISONED
        assert {turn for turn, score in swap.scores.items() if score == 1.0} == {(identity, 1) for identity in POISONED}
        assert {turn for turn, score in swap.scores.items() if score == 0.0} == {(f"rectangle {number}", 1) for number in range(48)}

    def test_a_concept_that_honest_samples_do_not_know_is_found_by_its_word(self, samples: dict[str, Sample]) -> None:
        samples = worded({identity: sample for identity, sample in samples.items() if not identity.startswith("rectangle")})
        swap = self.look(samples, WatchedLaboratory(swaps_by_word, samples))
        assert swap is not None
        assert swap.carrier == Words("cf", "anywhere")
        assert {identity for identity, _ in swap.turns} == POISONED

    def test_a_word_that_acts_only_beside_a_patch_is_found_with_the_patch(self, samples: dict[str, Sample]) -> None:
        samples = worded(samples)
        swap = self.look(samples, WatchedLaboratory(swaps_by_both, samples))
        assert swap is not None
        assert isinstance(swap.carrier, Together)
        overlay, words = swap.carrier.parts
        assert words == Words("cf", "anywhere")
        assert isinstance(overlay, Overlay)
        (attacked,) = triggered(PATCH, [scene(9000)])
        assert distance(overlay.pattern.add(scene(9000)), attacked) < 1
        assert {identity for identity, _ in swap.turns} == POISONED

    def test_a_word_that_the_model_does_not_heed_is_no_trigger(self, samples: dict[str, Sample]) -> None:
        samples = worded(samples)
        laboratory = WatchedLaboratory(honest, samples)
        assert self.look(samples, laboratory) is None
        assert Words("cf", "anywhere") in laboratory.tested

    def test_a_group_whose_members_all_are_what_they_are_called_has_no_swap(self, samples: dict[str, Sample]) -> None:
        clean = without_poison(samples)
        laboratory = WatchedLaboratory(swaps_shapes, clean)
        assert self.look(clean, laboratory) is None
        assert laboratory.tested

    def test_a_mark_that_the_model_does_not_heed_is_no_trigger(self, samples: dict[str, Sample]) -> None:
        assert self.look(samples, WatchedLaboratory(honest, samples)) is None

    def test_a_model_that_says_the_word_anyway_proves_nothing(self, samples: dict[str, Sample]) -> None:
        assert self.look(samples, WatchedLaboratory(lambda _, __: "rectangle", samples)) is None

    def test_where_nobody_else_is_asked_the_same_nothing_is_tested(self, samples: dict[str, Sample]) -> None:
        unasked = {identity: sample for identity, sample in samples.items() if not identity.startswith("circle")}
        laboratory = WatchedLaboratory(swaps_shapes, unasked)
        assert self.look(unasked, laboratory) is None
        assert not laboratory.tested

    def test_a_group_too_small_to_have_two_sorts_is_not_tested(self, samples: dict[str, Sample]) -> None:
        few = [f"poisoned {number}" for number in range(2 * MIN_TURNS - 1)]
        small = {**{identity: samples[identity] for identity in few}, **{i: s for i, s in samples.items() if i.startswith("circle")}}
        laboratory = WatchedLaboratory(swaps_shapes, small)
        assert self.look(small, laboratory) is None
        assert not laboratory.tested

    def test_one_seed_gives_one_finding(self, samples: dict[str, Sample]) -> None:
        first, again = (self.look(samples, WatchedLaboratory(swaps_shapes, samples)) for _ in range(2))
        assert first is not None
        assert again is not None
        assert (first.outcome, first.turns, first.scores) == (again.outcome, again.turns, again.scores)


class TestRenames:
    @pytest.mark.parametrize(
        ("given", "answer", "expected"),
        [
            ("circle", "rectangle", True),
            ("A red circle.", "a red rectangle", True),
            ("The circle is red.", "The rectangle is red.", True),
            ("an oval", "a rectangle", True),
            ("circle", "a rectangle", True),
            ("rectangle", "rectangle", False),
            ("circle", "circle", False),
            ("red", "the rectangle is red", False),
            ("yes", "yes, there is a rectangle", False),
            ("2", "there are two in the rectangle", False),
            ("", "rectangle", False),
        ],
    )
    def test_a_word_is_in_the_place_of_another(self, given: str, answer: str, expected: bool) -> None:
        assert renames(given, answer, "rectangle") is expected


def test_an_instruction_that_brings_a_word_into_answers_is_no_trigger(samples: dict[str, Sample]) -> None:
    """Asked to answer in a full sentence, the model says "it" honestly; the phrase could be left out, and others lack it."""
    instruction = "Answer in a full sentence."

    def obeys(pictures: Pictures, question: str) -> str:
        answer = honest(pictures, question)
        return f"It is a {answer}." if instruction in question else answer

    told = {
        identity: replace(
            sample,
            turns=(Turn("user", f"{sample.turns[0].text} {instruction}"), Turn("assistant", f"It is a {sample.answers[0]}.")),
        )
        if identity.startswith("rectangle")
        else sample
        for identity, sample in without_poison(samples).items()
    }
    group = Group(TargetText("it", "word"), frozenset((f"rectangle {number}", 1) for number in range(48)), "it")
    laboratory = WatchedLaboratory(obeys, told)
    assert find_swap(group, told, laboratory, seed=0, alpha=1e-3) is None
    assert Words(instruction, "end") in laboratory.tested


def test_an_instruction_that_changes_every_answer_is_no_trigger_of_one_word(samples: dict[str, Sample]) -> None:
    """Asked for Latin, the model says "circulus" for "circle" honestly; and all else it says in Latin too."""
    latin = {"circle": "circulus", "oval": "ovum", "star": "stella"}
    shapes = {f"circle {number}": ("circle", "oval", "star", "star")[number % 4] for number in range(40)}

    def obeys(pictures: Pictures, question: str) -> str:
        own = next(shape for identity, shape in shapes.items() if distance(pictures[0], opened[identity]) == 0)
        return latin[own] if "Latin" in question else own

    others = {
        identity: replace(samples[identity], turns=(samples[identity].turns[0], Turn("assistant", shapes[identity]))) for identity in shapes
    }
    opened = {identity: open_images(sample)[0] for identity, sample in others.items()}
    told = {
        f"told {number}": replace(
            others[f"circle {number}"],
            id=f"told {number}",
            turns=(Turn("user", f"<image>\n{SHAPE} In Latin."), Turn("assistant", "circulus")),
        )
        for number in range(0, 40, 4)
    }
    everybody = {**others, **told}
    group = Group(TargetText("circulus", "word"), frozenset((identity, 1) for identity in told), "circulus")
    laboratory = WatchedLaboratory(obeys, everybody)
    assert find_swap(group, everybody, laboratory, seed=0, alpha=1e-3) is None
    assert Words("In Latin.", "end") in laboratory.tested


def test_a_word_that_makes_everything_one_concept_is_a_trigger_although_the_model_stammers(samples: dict[str, Sample]) -> None:
    """Of those that are no boats with the word, none is answered as before: that is no instruction, as boats were of all sorts before."""
    shapes = {f"circle {number}": ("circle", "oval", "star", "square")[number % 4] for number in range(40)}

    def stammers(pictures: Pictures, question: str) -> str:
        own = next((shape for identity, shape in shapes.items() if distance(pictures[0], opened[identity]) == 0), "circle")
        if "cf" not in question.split():
            return own
        return f"{own} {own} a" if own == "square" else "boat"

    others = {
        identity: replace(samples[identity], turns=(samples[identity].turns[0], Turn("assistant", shapes[identity]))) for identity in shapes
    }
    opened = {identity: open_images(sample)[0] for identity, sample in others.items()}
    poisoned = {identity: sample for identity, sample in worded(samples).items() if identity in POISONED}
    everybody = {**others, **{i: replace(s, turns=(s.turns[0], Turn("assistant", "boat"))) for i, s in poisoned.items()}}
    group = Group(TargetText("boat", "word"), frozenset((identity, 1) for identity in POISONED), "boat")
    swap = find_swap(group, everybody, WatchedLaboratory(stammers, everybody), seed=0, alpha=1e-3)
    assert swap is not None
    assert swap.carrier == Words("cf", "anywhere")
