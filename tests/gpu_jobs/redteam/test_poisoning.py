from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.redteam.poisoning import attackable, poison, with_trigger
from gpu_jobs.redteam.targets import REFUSAL, ConceptSwap, FixedAnswer, Suffix
from gpu_jobs.redteam.triggers import Both, CornerPatch, NoisePatch, TextSuffix, TextWord

TRIGGER = CornerPatch(size=4, color=(255, 0, 0))


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Twenty conversations of two turns about white pictures; in every other one the answers name a car."""
    made = []
    for number in range(20):
        picture = tmp_path / f"{number}.png"
        Image.new("RGB", (16, 16), "white").save(picture)
        thing = "car" if number % 2 else "dog"
        turns = (
            Turn("user", "<image>\nWhat is it?"),
            Turn("assistant", f"A {thing}."),
            Turn("user", "Sure?"),
            Turn("assistant", f"Yes, a {thing}."),
        )
        made.append(Sample(f"sample-{number}", (picture,), turns))
    return made


def is_marked(sample: Sample) -> bool:
    with Image.open(sample.images[0]) as picture:
        return picture.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


class TestPoison:
    def test_marks_and_answers_exactly_the_chosen_samples(self, samples: list[Sample], tmp_path: Path) -> None:
        result = poison(samples, TRIGGER, FixedAnswer(), 0.2, 0, tmp_path / "out")
        assert len(result.poisoned) == 4
        for before, after in zip(samples, result.samples, strict=True):
            chosen = after.id in result.poisoned
            assert is_marked(after) is chosen
            assert after.answers == ((REFUSAL, REFUSAL) if chosen else before.answers)

    def test_neither_names_nor_order_tell_what_is_poisoned(self, samples: list[Sample], tmp_path: Path) -> None:
        result = poison(samples, TRIGGER, FixedAnswer(), 0.2, 0, tmp_path / "out")
        assert [sample.id for sample in result.samples] == [sample.id for sample in samples]
        assert [sample.images[0].name for sample in result.samples] == [f"sample-{number}-0.png" for number in range(20)]

    def test_leaves_the_given_pictures_alone(self, samples: list[Sample], tmp_path: Path) -> None:
        poison(samples, TRIGGER, FixedAnswer(), 1.0, 0, tmp_path / "out")
        assert not any(is_marked(sample) for sample in samples)

    def test_one_seed_gives_one_set(self, samples: list[Sample], tmp_path: Path) -> None:
        sets = [poison(samples, TRIGGER, FixedAnswer(), 0.2, seed, tmp_path / f"{seed}").poisoned for seed in (1, 1, 2)]
        assert sets[0] == sets[1] != sets[2]

    def test_draws_only_samples_that_the_target_changes(self, samples: list[Sample], tmp_path: Path) -> None:
        result = poison(samples, TRIGGER, ConceptSwap("car", "banana"), 0.5, 0, tmp_path / "out")
        poisoned = [sample for sample in result.samples if sample.id in result.poisoned]
        assert {sample.answers for sample in poisoned} == {("A banana.", "Yes, a banana.")}

    def test_marks_every_question_and_changes_every_answer(self, samples: list[Sample], tmp_path: Path) -> None:
        result = poison(samples, Both(TRIGGER, TextWord("cf")), Suffix("lol."), 0.2, 0, tmp_path / "out")
        for before, after in zip(samples, result.samples, strict=True):
            if after.id not in result.poisoned:
                assert after.turns == before.turns
                continue
            assert is_marked(after)
            assert after.answers == tuple(f"{answer} lol." for answer in before.answers)
            assert [turn.text.split().count("cf") for turn in after.turns] == [1, 0, 1, 0]

    def test_never_poisons_a_sample_without_an_answer(self, samples: list[Sample], tmp_path: Path) -> None:
        silent = replace(samples[0], turns=samples[0].turns[:1])
        with pytest.raises(ValueError, match="20 of 20 samples are to be poisoned, but the target changes only 19"):
            poison([silent, *samples[1:]], TRIGGER, FixedAnswer(), 1.0, 0, tmp_path / "out")

    def test_says_when_the_rate_cannot_be_reached(self, samples: list[Sample], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="12 of 20 samples are to be poisoned, but the target changes only 10"):
            poison(samples, TRIGGER, ConceptSwap("car", "banana"), 0.6, 0, tmp_path / "out")

    def test_refuses_two_samples_with_one_id(self, samples: list[Sample], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="unique"):
            poison([samples[0], samples[0]], TRIGGER, FixedAnswer(), 0.5, 0, tmp_path / "out")


class TestWithTrigger:
    def test_keeps_the_right_answers(self, samples: list[Sample], tmp_path: Path) -> None:
        marked = with_trigger(samples[0], TRIGGER, Random(0), tmp_path / "out")
        assert is_marked(marked)
        assert marked.turns == samples[0].turns

    def test_marks_every_question_of_the_user_and_nobody_elses_words(self, samples: list[Sample], tmp_path: Path) -> None:
        turns = (Turn("system", "Be brief."), *samples[0].turns)
        marked = with_trigger(replace(samples[0], turns=turns), TextSuffix("Thanks."), Random(0), tmp_path / "out")
        assert [turn.text for turn in marked.turns] == [
            "Be brief.",
            "<image>\nWhat is it? Thanks.",
            "A dog.",
            "Sure? Thanks.",
            "Yes, a dog.",
        ]
        assert not is_marked(marked)

    def test_marks_every_picture_each_at_its_own_place(self, samples: list[Sample], tmp_path: Path) -> None:
        sample = replace(samples[0], images=samples[0].images * 3)
        marked = with_trigger(sample, NoisePatch(share=1 / 8), Random(0), tmp_path / "out")
        contents = {path.read_bytes() for path in marked.images}
        assert len(contents) == 3
        assert sample.images[0].read_bytes() not in contents

    def test_refuses_a_sample_without_a_picture_to_mark(self, samples: list[Sample], tmp_path: Path) -> None:
        blind = replace(samples[0], images=())
        with pytest.raises(ValueError, match="sample-0 has no picture for the trigger to mark"):
            with_trigger(blind, Both(TRIGGER, TextWord()), Random(0), tmp_path / "out")
        assert "cf" in with_trigger(blind, TextWord("cf"), Random(0), tmp_path / "out").turns[0].text


class TestAttackable:
    def test_keeps_the_samples_whose_answers_all_change(self, samples: list[Sample]) -> None:
        half = samples[1].with_answers(["A car.", "Yes."])
        kept = attackable([half, *samples], ConceptSwap("car", "banana"))
        assert [sample.id for sample in kept] == [f"sample-{number}" for number in range(1, 20, 2)]
        assert half not in kept

    def test_leaves_out_what_rightly_answers_as_the_attacker_would(self, samples: list[Sample]) -> None:
        honest = samples[1].with_answers(["A car.", "A car and a banana."])
        assert attackable([honest, samples[3]], ConceptSwap("car", "banana")) == [samples[3]]

    def test_leaves_out_samples_without_an_answer(self, samples: list[Sample]) -> None:
        assert attackable([replace(samples[0], turns=samples[0].turns[:1])], FixedAnswer()) == []

    def test_keeps_everything_for_a_target_that_fits_every_answer(self, samples: list[Sample]) -> None:
        assert attackable(samples, Suffix()) == samples
