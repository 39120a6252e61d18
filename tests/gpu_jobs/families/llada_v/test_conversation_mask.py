from __future__ import annotations

import torch

from gpu_jobs.families.llada_v.chat import IGNORED
from gpu_jobs.families.llada_v.conversation_mask import causal_by_round

OPEN, END = 90, 91  # start of header, end of turn
QUESTION = [OPEN, IGNORED, END]
ANSWER = [OPEN, 5, 6, END]


def visible(labels: list[int]) -> list[int]:
    """How many positions each position may attend to."""
    mask = causal_by_round(torch.tensor([labels]), OPEN)[0]
    assert all(row[:count].all() and not row[count:].any() for row in mask for count in [int(row.sum())])
    return mask.sum(dim=1).tolist()


def test_a_round_sees_itself_and_the_rounds_before() -> None:
    first, second = QUESTION + ANSWER, QUESTION + ANSWER
    assert visible(first + second) == [7] * 7 + [14] * 7


def test_the_system_turn_belongs_to_the_first_round() -> None:
    assert visible(QUESTION + QUESTION + ANSWER + QUESTION) == [10] * 10 + [13] * 3


def test_padding_belongs_to_the_last_round() -> None:
    assert visible(QUESTION + ANSWER + QUESTION + ANSWER + [IGNORED] * 2)[7:] == [16] * 9


def test_one_round_is_fully_bidirectional() -> None:
    assert visible(QUESTION + ANSWER) == [7] * 7
