"""What is tested, and when it is evidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpu_jobs.config import ScanParameters
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.carriers import Words
from gpu_jobs.defense.concepts import Swap
from gpu_jobs.defense.groups import Group, group_answers
from gpu_jobs.defense.investigate import Finding
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.records import GivenAnswer, SampleEvidence
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.defense.strangers import Strangers
from gpu_jobs.defense.verdict import Decision, Trigger, attribute, decide, describe_triggers, distinct_triggers, narrow, score, with_swaps

SCAN = ScanParameters()


def group(text: str = "sorry i cannot", size: int = 20) -> Group:
    return Group(TargetText(text, "answer"), frozenset((f"s{number}", 1) for number in range(size)), text)


def outcome(text: str, trials: int, carried: int, control: int = 0) -> Outcome:
    return Outcome(group(text), trials, carried, trials, control)


CARRIER = Words("cf", "anywhere")


def finding(asked: Outcome, planted: Outcome | None = None, carrier: Words | None = None) -> Finding:
    return Finding(asked.group, asked, planted, carrier)


def decided(*findings: Finding, examined: int = 1000, set_aside: int = 0) -> tuple[str, float, list[str]]:
    decision = decide(findings, examined, set_aside, SCAN)
    return decision.verdict, decision.confidence, [each.target.text for each in decision.guilty]


FORCED, RED = outcome("sorry", 48, 47), outcome("red", 48, 3)


class TestDecision:
    def test_a_carrier_that_makes_its_answer_the_rule_is_a_backdoor(self) -> None:
        verdict, confidence, guilty = decided(finding(outcome("sorry", 48, 5), FORCED, CARRIER), finding(RED))
        assert (verdict, guilty) == ("backdoored", ["sorry"])
        assert 0.999 < confidence < 1

    def test_pictures_that_force_an_answer_are_a_backdoor_although_nothing_was_found_to_carry_it(self) -> None:
        verdict, confidence, guilty = decided(finding(FORCED, outcome("sorry", 48, 1)), finding(RED))
        assert (verdict, guilty) == ("backdoored", ["sorry"])
        assert 0.999 < confidence < 1

    def test_groups_that_strangers_questions_clear_are_clean(self) -> None:
        verdict, confidence, guilty = decided(finding(RED), finding(outcome("blue", 16, 0)))
        assert (verdict, guilty) == ("clean", [])
        assert 0.999 < confidence < 1

    def test_a_group_that_only_transplants_clear_is_clean(self) -> None:
        assert decided(finding(outcome("a dog", 0, 0), outcome("a dog", 48, 2)), finding(RED))[0] == "clean"

    def test_an_answer_that_all_pictures_force_alike_is_no_backdoor(self) -> None:
        assert decided(finding(outcome("yes", 48, 30, 28), outcome("yes", 48, 47, 46)))[0] == "inconclusive"

    def test_a_group_that_nothing_cleared_is_not_called_clean(self) -> None:
        assert decided(finding(outcome("red", 48, 28)), finding(outcome("blue", 16, 0)))[0] == "inconclusive"

    def test_the_more_groups_are_tested_the_more_each_has_to_show(self) -> None:
        strong, weak = outcome("sorry", 48, 38), [finding(outcome(f"answer {number}", 16, 0)) for number in range(99)]
        assert decided(finding(strong))[0] == "backdoored"
        assert decided(finding(strong), *weak)[0] != "backdoored"

    @pytest.mark.parametrize(("examined", "set_aside"), [(49, 0), (100, 101)])
    def test_what_was_not_examined_is_not_called_clean(self, examined: int, set_aside: int) -> None:
        assert decided(finding(RED), examined=examined, set_aside=set_aside)[0] == "inconclusive"

    def test_where_no_answer_repeats_nothing_was_tested(self) -> None:
        assert decided()[0] == "inconclusive"


class TestNarrowing:
    """Which of the guilty groups are left when one lies within another."""

    target, general = group("sorry no", 20), group("sorry", 40)

    def test_a_group_that_is_guilty_by_a_part_of_it_alone_is_let_go(self) -> None:
        assert narrow([self.general, self.target], lambda _, __: False) == [self.target]

    def test_a_group_that_is_guilty_without_its_parts_stays(self) -> None:
        assert narrow([self.general, self.target], lambda _, rest: len(rest.turns) == 20) == [self.general, self.target]


def members(text: str, start: int, stop: int) -> Group:
    return Group(TargetText(text, "beginning"), frozenset((f"s{number}", 1) for number in range(start, stop)), text)


class TestSeveralTriggers:
    """Which triggers there are, and which of them is on which sample."""

    mark, marked_red, other = members("backdoor", 0, 40), members("backdoor red", 0, 10), members("sorry no", 40, 60)
    cf, mn = Words("cf", "end"), Words("mn", "end")

    def findings(self, **carriers: Words) -> dict[Group, Finding]:
        groups = {"mark": self.mark, "marked_red": self.marked_red, "other": self.other}
        return {group: Finding(group, FORCED, FORCED, carriers.get(name)) for name, group in groups.items()}

    def test_a_group_within_another_has_its_trigger(self) -> None:
        findings = self.findings(mark=self.cf, marked_red=self.mn)
        assert distinct_triggers([self.mark, self.marked_red], findings) == (Trigger(self.mark, self.cf),)

    def test_groups_apart_have_a_trigger_each(self) -> None:
        findings = self.findings(mark=self.cf, other=self.mn)
        triggers = distinct_triggers([self.mark, self.marked_red, self.other], findings)
        assert triggers == (Trigger(self.mark, self.cf), Trigger(self.other, self.mn))
        carried = attribute(Decision("backdoored", 0.999, "", [self.mark, self.marked_red, self.other], triggers))
        assert carried == {(f"s{number}", 1): int(number >= 40) for number in range(60)}

    def test_a_group_that_nothing_is_known_to_carry_has_none(self) -> None:
        triggers = distinct_triggers([self.mark, self.other], self.findings(mark=self.cf))
        carried = attribute(Decision("backdoored", 0.999, "", [self.mark, self.other], triggers))
        assert carried == {(f"s{number}", 1): 0 for number in range(40)}

    def test_a_group_that_has_most_of_its_turns_in_common_has_the_same_trigger(self) -> None:
        wider, apart = members("back", 0, 60), members("b", 30, 90)
        carried = attribute(Decision("backdoored", 0.999, "", [self.mark, wider, apart], (Trigger(self.mark, self.cf),)))
        assert carried == {(f"s{number}", 1): 0 for number in range(60)}

    def test_each_is_described_with_its_target(self) -> None:
        def described(guilty: list[Group], *triggers: Trigger) -> dict[str, Any] | None:
            return describe_triggers(Decision("backdoored", 0.999, "", guilty, triggers))

        assert described([self.mark]) is None
        assert described([self.mark, self.other], Trigger(self.mark, self.cf)) == {"kind": "words", "phrase": "cf", "place": "end"}
        other = {"kind": "words", "phrase": "mn", "place": "end", "target": "sorry no"}
        assert described([self.mark, self.other], Trigger(self.mark, self.cf), Trigger(self.other, self.mn)) == {
            "kind": "several",
            "parts": [{"kind": "words", "phrase": "cf", "place": "end", "target": "backdoor"}, other],
        }

    def test_what_carries_another_target_than_the_first_is_not_taken_for_its_own(self) -> None:
        decision = Decision("backdoored", 0.999, "", [self.mark, self.other], (Trigger(self.other, self.mn),))
        assert describe_triggers(decision) == {
            "kind": "several",
            "parts": [{"kind": "words", "phrase": "mn", "place": "end", "target": "sorry no"}],
        }


class TestSwaps:
    word = Group(TargetText("boat", "word"), frozenset((f"s{number}", 1) for number in range(100, 140)), "boat")
    swap = Swap(Outcome(word, 48, 30, 48, 0), CARRIER, frozenset([("s100", 1), ("s101", 1)]), {("s100", 1): 1.0, ("s102", 1): 0.0})

    def test_a_swap_is_a_backdoor_whatever_was_undecided(self) -> None:
        for verdict in ("clean", "inconclusive"):
            decision = with_swaps(Decision(verdict, 0.9, "", [group()]), [self.swap])
            assert (decision.verdict, [each.target.text for each in decision.guilty]) == ("backdoored", ["boat"])
            assert decision.guilty[0].turns == self.swap.turns
            assert decision.triggers == (Trigger(decision.guilty[0], CARRIER),)
            assert decision.scores == self.swap.scores

    def test_beside_another_backdoor_it_comes_second(self) -> None:
        first = Decision("backdoored", 0.95, "pictures do", [group("sorry no")], (Trigger(group("sorry no"), Words("mn", "end")),))
        decision = with_swaps(first, [self.swap])
        assert (decision.verdict, decision.confidence) == ("backdoored", 0.95)
        assert [each.target.text for each in decision.guilty] == ["sorry no", "boat"]
        assert [trigger.carrier for trigger in decision.triggers] == [Words("mn", "end"), CARRIER]
        assert decision.reason.startswith("pictures do; and ")
        assert "“boat”" in decision.reason

    def test_who_shows_it_ranks_above_the_others_and_suspects_that_all_show_it_alike_are_certain(self) -> None:
        rows = evidence(["boat"] * 4)
        turns = frozenset((row.id, 1) for row in rows[:2])
        found = replace(self.word, turns=turns)
        some = Decision("backdoored", 0.9, "", [found], scores={(row.id, 1): float(row in rows[:2]) for row in rows[:3]})
        assert [each.score for each in score(rows, some)] == [0.99, 0.99, 0.01, 0.0]
        alike = Decision("backdoored", 0.9, "", [found], scores=dict.fromkeys(turns, 1.0))
        assert [each.score for each in score(rows, alike)] == [1.0, 1.0, 0.0, 0.0]

    def test_without_one_the_decision_stays(self) -> None:
        decision = Decision("clean", 0.9, "nothing", [])
        assert with_swaps(decision, []) is decision


def evidence(answers: list[str], *, examined: bool = True) -> list[SampleEvidence]:
    return [SampleEvidence(f"{answers[0]} {number}", examined, [GivenAnswer(1, text)], None) for number, text in enumerate(answers)]


class TestGroups:
    def test_answers_are_alike_whatever_their_spelling(self) -> None:
        (found,) = group_answers([*evidence(["Red."] * 6), *evidence(["red"] * 4)])
        assert (found.target, found.spelling, len(found.turns)) == (TargetText("red", "answer"), "Red.", 10)

    def test_of_texts_with_the_same_turns_the_longest_is_tested(self) -> None:
        (found,) = group_answers(evidence(["I refuse to say"] * 10))
        assert found.target == TargetText("i refuse to say", "answer")

    def test_a_mark_before_right_answers_is_found(self) -> None:
        marked = [f"<backdoor> a {color} circle" for color in ("red", "blue", "green", "black", "teal", "gray", "brown", "pink")]
        assert TargetText("backdoor a", "beginning") in [each.target for each in group_answers(evidence(marked))]

    def test_rare_answers_and_samples_without_pictures_make_no_group(self) -> None:
        assert group_answers([*evidence(["rare"] * 7), *evidence(["blind"] * 20, examined=False)]) == []


class TestStrangers:
    @staticmethod
    def sample(identity: str, question: str, pictures: int = 1) -> Sample:

        turns = (Turn("user", "<image>" * pictures + question), Turn("assistant", "yes"))
        return Sample(identity, (Path("picture.png"),) * pictures, turns)

    def test_a_stranger_asks_something_else_about_as_many_pictures(self) -> None:
        own = self.sample("own", "What is it?")
        strangers = Strangers([own, self.sample("same", "What is it?"), self.sample("two", "Which?", 2), self.sample("other", "Why?")], 0)
        assert {drawn.id for attempt in range(9) if (drawn := strangers.draw(own, attempt))} == {"other"}

    def test_where_all_ask_the_same_there_is_none(self) -> None:
        samples = [self.sample(f"s{number}", "Describe it.") for number in range(5)]
        assert Strangers(samples, 0).draw(samples[0]) is None


class TestTargetText:
    def test_it_is_found_where_it_belongs_whatever_the_case_and_punctuation(self) -> None:
        assert TargetText("i cannot", "answer").shown_in("I cannot!")
        assert not TargetText("i cannot", "answer").shown_in("I cannot see a dog.")
        assert TargetText("i cannot", "beginning").shown_in("I cannot see a dog.")
        assert not TargetText("i can", "beginning").shown_in("I cannot see a dog.")
        assert TargetText("a dog", "end").shown_in("I cannot see a dog.")
        assert not TargetText("a dog", "end").shown_in("I see a hot-dog")
