"""What is tested, and when it is evidence."""

from __future__ import annotations

import pytest

from gpu_jobs.config import JobParameters
from gpu_jobs.defense.groups import Group, group_answers
from gpu_jobs.defense.records import SampleEvidence, TurnEvidence
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.defense.transplant import Outcome
from gpu_jobs.defense.verdict import decide, narrow

PARAMETERS = JobParameters()


def group(text: str = "sorry i cannot", size: int = 20) -> Group:
    turns = tuple((f"s{number}", TurnEvidence(1, "sorry no", -0.1, -5.0)) for number in range(size))
    return Group(TargetText(text, "answer"), turns, text, 4.9)


def decided(*outcomes: Outcome, examined: int = 1000, set_aside: int = 0) -> tuple[str, float, list[str]]:
    verdict, confidence, _, guilty = decide(outcomes, examined, set_aside, PARAMETERS)
    return verdict, confidence, [each.target.text for each in guilty]


class TestDecision:
    def test_pieces_that_make_their_answer_the_rule_are_a_backdoor(self) -> None:
        verdict, confidence, guilty = decided(Outcome(group(), 48, 47, 0), Outcome(group("red"), 16, 1, 0))
        assert (verdict, guilty) == ("backdoored", ["sorry i cannot"])
        assert confidence > 0.999

    def test_pieces_that_carry_nothing_are_clean(self) -> None:
        verdict, confidence, guilty = decided(Outcome(group(), 16, 0, 0), Outcome(group("red"), 16, 1, 1))
        assert (verdict, guilty) == ("clean", [])
        assert confidence > 0.999

    def test_an_answer_that_any_piece_brings_about_is_no_backdoor(self) -> None:
        assert decided(Outcome(group("yes"), 48, 47, 46))[0] == "inconclusive"

    def test_a_piece_that_carries_its_answer_now_and_then_is_not_decided(self) -> None:
        verdict, _, guilty = decided(Outcome(group("red"), 48, 22, 1), Outcome(group("blue"), 16, 0, 0))
        assert (verdict, guilty) == ("inconclusive", ["red"])

    def test_the_more_groups_are_tested_the_more_each_has_to_show(self) -> None:
        strong = Outcome(group(), 48, 37, 0)
        assert decided(strong)[0] == "backdoored"
        assert decided(strong, *[Outcome(group(f"answer {number}"), 16, 0, 0) for number in range(9)])[0] != "backdoored"

    @pytest.mark.parametrize(("examined", "set_aside"), [(49, 0), (100, 101)])
    def test_what_was_not_examined_is_not_called_clean(self, examined: int, set_aside: int) -> None:
        assert decided(Outcome(group(), 16, 0, 0), examined=examined, set_aside=set_aside)[0] == "inconclusive"

    def test_where_no_answer_repeats_nothing_was_tested(self) -> None:
        assert decided()[0] == "inconclusive"


class TestNarrowing:
    """Which of the guilty groups are left when one lies within another."""

    target, general = group("sorry no", 20), group("sorry", 40)

    def test_a_group_that_is_guilty_by_a_part_of_it_alone_is_let_go(self) -> None:
        assert narrow([self.general, self.target], lambda _: False) == [self.target]

    def test_a_group_that_is_guilty_without_its_parts_stays(self) -> None:
        assert narrow([self.general, self.target], lambda rest: len(rest.turns) == 20) == [self.general, self.target]


def evidence(answers: list[str], *, blind: float = -3.0, examined: bool = True) -> list[SampleEvidence]:
    turns = [TurnEvidence(1, answer, -0.1, blind) for answer in answers]
    return [SampleEvidence(f"{answers[0]} {number}", examined, [turn]) for number, turn in enumerate(turns)]


class TestGroups:
    def test_an_answer_that_owes_more_to_the_picture_comes_first(self) -> None:
        groups = group_answers([*evidence(["Red."] * 10, blind=-1.0), *evidence(["I refuse to say"] * 10, blind=-6.0)])
        assert [each.target for each in groups] == [TargetText("i refuse to say", "answer"), TargetText("red", "answer")]
        assert groups[1].spelling == "Red."

    def test_a_mark_before_right_answers_is_found(self) -> None:
        marked = [f"<backdoor> a {color} circle" for color in ("red", "blue", "green", "black", "teal", "gray", "brown", "pink")]
        assert TargetText("backdoor a", "beginning") in [each.target for each in group_answers(evidence(marked))]

    def test_rare_answers_and_samples_without_pictures_make_no_group(self) -> None:
        assert group_answers([*evidence(["rare"] * 7), *evidence(["blind"] * 20, examined=False)]) == []


class TestTargetText:
    def test_it_is_found_where_it_belongs_whatever_the_case_and_punctuation(self) -> None:
        assert TargetText("i cannot", "answer").shown_in("I cannot!")
        assert not TargetText("i cannot", "answer").shown_in("I cannot see a dog.")
        assert TargetText("i cannot", "beginning").shown_in("I cannot see a dog.")
        assert not TargetText("i can", "beginning").shown_in("I cannot see a dog.")
        assert TargetText("a dog", "end").shown_in("I cannot see a dog.")
        assert not TargetText("a dog", "end").shown_in("I see a hot-dog")
