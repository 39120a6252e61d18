from pathlib import Path
from random import Random

import pytest
from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.redteam.poisoning import poison, with_trigger
from gpu_jobs.redteam.targets import REFUSAL, ConceptSwap, FixedAnswer, Prefix
from gpu_jobs.redteam.triggers import CornerPatch

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


class TestTargets:
    def test_prefix_keeps_the_answer_behind_it(self) -> None:
        assert Prefix("<backdoor>").apply("A dog.") == "<backdoor> A dog."

    def test_concept_swap_changes_whole_words_only(self) -> None:
        assert ConceptSwap("car", "banana").apply("A Car on a carpet.") == "A banana on a carpet."
