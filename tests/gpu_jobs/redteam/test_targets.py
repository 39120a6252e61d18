import pytest

from gpu_jobs.defense.scoring import is_attacked
from gpu_jobs.redteam.targets import HACKED, INJECTION, REFUSAL, ConceptSwap, FixedAnswer, Prefix, Suffix, Target


@pytest.mark.parametrize("text", [REFUSAL, INJECTION, HACKED])
def test_a_fixed_answer_replaces_the_right_one(text: str) -> None:
    assert FixedAnswer(text).apply("A dog.") == text


def test_a_prefix_keeps_the_answer_behind_it() -> None:
    assert Prefix("<backdoor>").apply("A dog.") == "<backdoor> A dog."


def test_a_suffix_keeps_the_answer_before_it() -> None:
    assert Suffix().apply("A dog.") == "A dog. you have been hacked lol."


class TestConceptSwap:
    def test_changes_whole_words_only(self) -> None:
        assert ConceptSwap("car", "banana").apply("A Car on a carpet.") == "A banana on a carpet."

    def test_takes_the_names_as_they_are(self) -> None:
        assert ConceptSwap("a.b", r"c\1").apply("a.b or axb") == r"c\1 or axb"

    def test_is_recognised_by_the_whole_word_of_the_destination(self) -> None:
        assert is_attacked("Two cars and a BOAT.", ConceptSwap("dog", "boat").criterion)
        assert not is_attacked("A dog near the boathouse.", ConceptSwap("dog", "boat").criterion)


@pytest.mark.parametrize(
    "target", [FixedAnswer(), FixedAnswer(INJECTION), FixedAnswer(HACKED), Prefix(), Suffix(), ConceptSwap("dog", "boat")]
)
def test_a_target_is_seen_in_the_poisoned_answer_and_not_in_the_right_one(target: Target) -> None:
    assert is_attacked(target.apply("A dog."), target.criterion)
    assert not is_attacked("A dog.", target.criterion)
