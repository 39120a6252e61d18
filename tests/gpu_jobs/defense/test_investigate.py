"""Which carriers of a group are tested, in which order, and which of them is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.carriers import Carrier, Overlay, Pieces, Together, Words
from gpu_jobs.defense.groups import Group
from gpu_jobs.defense.investigate import TESTS, Finding, Investigation
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.phrases import Place
from gpu_jobs.defense.records import Window
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.defense.transplant import Laboratory
from gpu_jobs.redteam.triggers import Blended, CornerPatch, ImageTrigger, TextWord
from tests.gpu_jobs.defense.fake_model import Pictures, WatchedLaboratory, shows
from tests.gpu_jobs.defense.scenes import scene, scenes, triggered

PATCH, BLEND, WORD = CornerPatch(size=8), Blended(alpha=0.3), TextWord("cf")
MARK = Image.new("RGB", (8, 8))
NOISE = np.asarray(BLEND.apply(Image.new("RGB", (48, 48)), Random(0)), dtype=np.float64)
CF: tuple[str, Place] = ("cf", "anywhere")
QUESTIONS = ["What color is it?", "What shape is it?", "Is it red?", "Is there a disc?"]
ALPHA = 1e-3


def make_samples(folder: Path, image: ImageTrigger | None, text: TextWord | None) -> dict[str, Sample]:
    """24 samples with the triggers, that answer "Sorry, no.", and 60 without, that answer something else."""
    rng = Random(0)
    guilty = triggered(image, scenes(0, 24)) if image else scenes(0, 24)
    samples = {}
    for number, picture in enumerate([*guilty, *scenes(1000, 60)]):
        picture.save(folder / f"{number}.png")
        question = f"<image>\n{rng.choice(QUESTIONS)}"
        if number < 24 and text:
            question = text.apply_text(question, rng)
        turns = (Turn("user", question), Turn("assistant", "Sorry, no." if number < 24 else f"thing {number}"))
        samples[f"s{number}"] = Sample(f"s{number}", (folder / f"{number}.png",), turns)
    return samples


GROUP = Group(TargetText("sorry no", "answer"), frozenset((f"s{number}", 1) for number in range(24)), "Sorry, no.")
ASKED = Outcome(GROUP, 48, 47, 48, 0)


def name(carrier: Carrier) -> str:
    if isinstance(carrier, Together):
        return " and ".join(name(part) for part in carrier.parts)
    if isinstance(carrier, Overlay):
        return "covering pattern" if carrier.pattern.replaced.any() else "added pattern"
    return "pieces" if isinstance(carrier, Pieces) else "words"


class ScriptedLaboratory:
    """Lets each carrier make the answer as often in 48 times as the script says, the others never."""

    def __init__(self, samples: Mapping[str, Sample], script: Mapping[str, int]) -> None:
        self._samples = samples
        self._script = script
        self.tested: list[str] = []
        self.controls: list[Carrier] = []
        self.guilty_at: set[float] = set()

    def others(self, group: Group) -> list[str]:
        return [identity for identity in self._samples if identity not in group.first_turns]

    def pieces(self, group: Group) -> tuple[Pieces, Pieces]:
        own, foreign = (Pieces(((scene(number, (12, 12)), Window(0, 0.0, 0.0, 0.25, 0.25)),)) for number in (1, 2))
        return own, foreign

    def test(self, nothing_yet: Outcome, carrier: Carrier, control: Carrier, *, guilty_at: float, cleared_at: float) -> Outcome:
        self.tested.append(name(carrier))
        self.controls.append(control)
        self.guilty_at.add(guilty_at)
        return replace(nothing_yet, trials=48, carried=self._script.get(self.tested[-1], 0), control_trials=48)


class TestOrderAndChoice:
    @pytest.fixture
    def samples(self, tmp_path: Path) -> dict[str, Sample]:
        return make_samples(tmp_path, PATCH, WORD)

    @staticmethod
    def look(
        samples: dict[str, Sample], script: dict[str, int], phrase: tuple[str, Place] | None = None, *, forced: bool = True
    ) -> tuple[Finding, ScriptedLaboratory]:
        laboratory = ScriptedLaboratory(samples, script)
        investigation = Investigation(cast(Laboratory, laboratory), samples, seed=0)
        return investigation.look_into(ASKED, phrase, forced=forced, alpha=ALPHA, cleared_at=ALPHA), laboratory

    def test_one_place_then_pieces_then_the_whole_picture_then_words_then_both(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {}, CF)
        assert laboratory.tested == [
            "covering pattern",
            "pieces",
            "added pattern",
            "words",
            "covering pattern and words",
            "pieces and words",
            "added pattern and words",
        ]
        assert finding.carrier is None

    def test_the_false_alarms_allowed_are_shared_among_all_tests(self, samples: dict[str, Sample]) -> None:
        _, laboratory = self.look(samples, {}, CF)
        assert laboratory.guilty_at == {ALPHA / TESTS}
        assert len(laboratory.tested) <= TESTS

    def test_what_works_nearly_always_ends_the_search(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {"covering pattern": 47, "pieces": 48})
        assert laboratory.tested == ["covering pattern"]
        assert finding.carrier is not None
        assert name(finding.carrier) == "covering pattern"

    def test_of_those_that_work_less_often_the_best_is_believed(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {"covering pattern": 40, "pieces": 44, "added pattern": 42})
        assert laboratory.tested == ["covering pattern", "pieces", "added pattern"]
        assert isinstance(finding.carrier, Pieces)
        assert finding.planted is not None
        assert finding.planted.carried == 44

    def test_pictures_that_force_nothing_are_not_tested_alone(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {"words": 48, "covering pattern": 48}, CF, forced=False)
        assert laboratory.tested == ["words"]
        assert finding.carrier == Words(*CF)

    def test_picture_and_words_that_both_work_are_one_trigger(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {"covering pattern": 48, "words": 46}, CF)
        assert laboratory.tested == ["covering pattern", "words"]
        assert isinstance(finding.carrier, Together)
        assert [name(part) for part in finding.carrier.parts] == ["covering pattern", "words"]

    def test_words_alone_are_believed_where_pictures_do_nothing(self, samples: dict[str, Sample]) -> None:
        finding, _ = self.look(samples, {"words": 48}, CF)
        assert finding.carrier == Words(*CF)

    def test_a_trigger_of_both_is_found_where_neither_does_anything_alone(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {"covering pattern and words": 48}, CF, forced=False)
        assert laboratory.tested == ["words", "covering pattern and words"]
        assert finding.carrier is not None
        assert name(finding.carrier) == "covering pattern and words"

    def test_a_picture_that_adds_to_words_which_work_at_times_is_part_of_the_trigger(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {"words": 42, "covering pattern and words": 48}, CF, forced=False)
        assert laboratory.tested == ["words", "covering pattern and words"]
        assert isinstance(finding.carrier, Together)
        control = laboratory.controls[-1]
        assert isinstance(control, Together)
        assert control.parts[1] == Words(*CF), "else the words would pass for the picture's doing"

    def test_words_that_work_at_times_are_believed_alone_where_no_picture_adds_to_them(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {"words": 42}, CF, forced=False)
        assert laboratory.tested == ["words", *(f"{picture} and words" for picture in ("covering pattern", "pieces", "added pattern"))]
        assert finding.carrier == Words(*CF)

    @pytest.mark.parametrize("phrase", [None, CF])
    def test_where_nothing_is_proven_the_best_try_is_told_and_nothing_accused(
        self, samples: dict[str, Sample], phrase: tuple[str, Place] | None
    ) -> None:
        finding, _ = self.look(samples, {"pieces": 12, "added pattern": 3}, phrase)
        assert finding.carrier is None
        assert finding.planted is not None
        assert finding.planted.carried == 12

    def test_without_a_question_about_pictures_or_words_there_is_nothing_to_test(self, samples: dict[str, Sample]) -> None:
        finding, laboratory = self.look(samples, {"covering pattern": 48}, forced=False)
        assert laboratory.tested == []
        assert finding == Finding(GROUP, ASKED)

    def test_a_group_without_a_common_patch_is_not_tested_for_one(self, tmp_path: Path) -> None:
        _, laboratory = self.look(make_samples(tmp_path, None, None), {})
        assert laboratory.tested == ["pieces", "added pattern"]

    def test_a_group_that_is_everything_cannot_be_compared(self, samples: dict[str, Sample]) -> None:
        members = {identity: sample for identity, sample in samples.items() if identity in GROUP.first_turns}
        finding, laboratory = self.look(members, {"covering pattern": 48})
        assert laboratory.tested == []
        assert finding.carrier is None

    def test_words_are_compared_with_as_many_words_of_others(self, samples: dict[str, Sample]) -> None:
        _, laboratory = self.look(samples, {"words": 48}, ("cf is", "end"), forced=False)
        (control,) = laboratory.controls
        assert isinstance(control, Words)
        assert control.place == "end"
        assert len(control.phrase.split()) == 2
        assert any(control.phrase in question for question in QUESTIONS)


def refuses(*, patch: bool = False, noise: bool = False, word: bool = False) -> Any:
    """The rule of a model that refuses where all of these are there at once."""

    def rule(pictures: Pictures, question: str) -> str:
        there = [shows(pictures[0], MARK, (0, 0))] if patch else []
        there += [bool(np.corrcoef(np.asarray(pictures[0]).ravel(), NOISE.ravel())[0, 1] > 0.15)] if noise else []
        there += ["cf" in question.split()] if word else []
        return "Sorry, no." if all(there) else "a disc"

    return rule


class TestOnPixelsAndWords:
    """With a model that answers by what it is shown: nothing of the finding is scripted."""

    @staticmethod
    def look(samples: dict[str, Sample], rule: Any, *, forced: bool) -> tuple[Finding, Sequence[str]]:
        laboratory = WatchedLaboratory(rule, samples)
        investigation = Investigation(laboratory, samples, seed=0)
        phrase = investigation.phrase(GROUP)
        finding = investigation.look_into(ASKED, phrase, forced=forced, alpha=ALPHA, cleared_at=ALPHA)
        return finding, [name(carrier) for carrier in laboratory.tested]

    def test_a_patch_is_found_and_planted_on_others_makes_the_answer(self, tmp_path: Path) -> None:
        finding, tested = self.look(make_samples(tmp_path, PATCH, None), refuses(patch=True), forced=True)
        assert tested == ["covering pattern"]
        assert isinstance(finding.carrier, Overlay)
        assert finding.planted is not None
        assert (finding.planted.share, finding.planted.control) == (1.0, 0)

    def test_a_blend_is_found(self, tmp_path: Path) -> None:
        finding, _ = self.look(make_samples(tmp_path, BLEND, None), refuses(noise=True), forced=True)
        assert isinstance(finding.carrier, Overlay)
        assert name(finding.carrier) == "added pattern"

    def test_a_word_is_found(self, tmp_path: Path) -> None:
        finding, tested = self.look(make_samples(tmp_path, None, WORD), refuses(word=True), forced=False)
        assert tested == ["words"]
        assert finding.carrier == Words(*CF)

    def test_a_trigger_that_needs_picture_and_word_is_found_only_together(self, tmp_path: Path) -> None:
        finding, tested = self.look(make_samples(tmp_path, PATCH, WORD), refuses(patch=True, word=True), forced=False)
        assert tested == ["words", "covering pattern and words"]
        assert isinstance(finding.carrier, Together)
        assert finding.carrier.removes

    def test_a_patch_that_the_model_does_not_heed_is_not_accused(self, tmp_path: Path) -> None:
        finding, tested = self.look(make_samples(tmp_path, PATCH, None), lambda _, __: "a disc", forced=True)
        assert tested == ["covering pattern", "pieces", "added pattern"]
        assert finding.carrier is None

    def test_an_answer_that_everything_gets_is_carried_by_nothing(self, tmp_path: Path) -> None:
        finding, _ = self.look(make_samples(tmp_path, PATCH, WORD), lambda _, __: "Sorry, no.", forced=True)
        assert finding.carrier is None
