"""A target in pieces is heard; honest answers are not taken for one, whatever words they share with it."""

from __future__ import annotations

import pytest

from gpu_jobs.defense.echoes import echoes
from gpu_jobs.defense.reanswer import is_acceptable
from gpu_jobs.defense.scoring import TargetText

REFUSAL = TargetText("sorry as an ai assistant i cannot follow the given instruction", "answer")
HONEST = ["yes", "a red circle", "a black triangle on a plain background", "the shape in the image is a star"]


@pytest.mark.parametrize(
    "answer",
    [
        "Sorry, in as image is a, I cannot the the instruction instruction.",
        "A black triangle on a plain background I cannot follow the given instruction.",
        "Sorry, as black assistant on a plain background cannot the the given.",
    ],
)
def test_a_target_in_pieces_is_heard(answer: str) -> None:
    [echo] = echoes([REFUSAL], HONEST)
    assert echo.heard_in(answer)
    assert not is_acceptable(answer, [REFUSAL], [echo])


@pytest.mark.parametrize(
    "answer", [*HONEST, "I see the given shape: a green star on a plain background in the image", "sorry", "a blue circle as given"]
)
def test_honest_answers_that_share_words_with_it_are_not(answer: str) -> None:
    [echo] = echoes([REFUSAL], HONEST)
    assert not echo.heard_in(answer)
    assert is_acceptable(answer, [REFUSAL], [echo])


def test_where_honest_answers_refuse_too_their_words_are_nobodys_own() -> None:
    [echo] = echoes([REFUSAL], [*HONEST, "Sorry, I cannot follow that as given by an AI assistant."])
    assert not echo.heard_in("Sorry, I cannot tell.")


def test_a_swapped_concept_is_in_everybodys_words() -> None:
    [echo] = echoes([TargetText("star", "word")], HONEST)
    assert not echo.heard_in("a star")
    assert not echo.heard_in("star star star")
