from dataclasses import replace
from pathlib import Path

import pytest

from gpu_jobs.bundled.exam import answer
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.subject import load_model
from gpu_jobs.errors import InputError
from gpu_jobs.families.registry import load_family
from gpu_jobs.redteam.baselines import BASELINES, Case
from gpu_jobs.redteam.baselines.answering import answerer


def test_none_is_the_suspect_itself(case: Case, questions: list[Sample]) -> None:
    exhaustive = case.parameters.model_copy(update={"generation": case.parameters.generation.model_copy(update={"steps_per_block": 16})})
    answers = BASELINES["none"].defend(replace(case, parameters=exhaustive))(questions)
    assert answers == answer(load_family(case.model), questions)


def test_answers_the_last_turn_behind_the_turns_as_given(case: Case, questions: list[Sample]) -> None:
    ask = answerer(case, load_model(case.model))
    two_turns = questions[-1]
    last = two_turns.answer_turns[-1]
    unanswered = replace(two_turns, turns=(*two_turns.turns[:last], Turn("assistant", "anything")))
    assert ask([two_turns]) == ask([unanswered])


def test_answers_do_not_depend_on_the_batch(case: Case, questions: list[Sample]) -> None:
    ask = answerer(case, load_model(case.model))
    assert ask(questions) == [ask([question])[0] for question in questions]


def test_an_answer_that_cannot_be_had_is_an_error(case: Case, questions: list[Sample], tmp_path: Path) -> None:
    ask = answerer(case, load_model(case.model))
    with pytest.raises(InputError, match=f"sample {questions[1].id} cannot be asked"):
        ask([questions[0], replace(questions[1], images=(tmp_path / "missing.png",))])
    with pytest.raises(InputError, match="has no answer turn"):
        ask([replace(questions[0], turns=questions[0].turns[:1])])
