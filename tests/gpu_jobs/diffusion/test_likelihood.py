from __future__ import annotations

import pytest
import torch

from gpu_jobs.diffusion.likelihood import answer_log_likelihood
from gpu_jobs.families.base import Prompt
from gpu_jobs.families.llada_v.family import LladaV

ANSWERS = ["A dog.", "yes", "A boat on a lake with a dog.", "no"]


@pytest.mark.parametrize("block_length", [None, 4, 32])
@torch.no_grad()
def test_it_does_not_depend_on_the_other_rows(family: LladaV, prompts: list[Prompt], block_length: int | None) -> None:
    answers = [family.encode_answer(text) for text in ANSWERS]
    together = answer_log_likelihood(family, prompts, answers, block_length=block_length)
    assert [len(row) for row in together] == [len(answer) for answer in answers]
    for row, prompt, answer in zip(together, prompts, answers, strict=True):
        (alone,) = answer_log_likelihood(family, [prompt], [answer], block_length=block_length)
        torch.testing.assert_close(row, alone, rtol=0, atol=1e-4)


@torch.no_grad()
def test_it_is_the_log_softmax_at_the_answers_tokens(family: LladaV, prompts: list[Prompt]) -> None:
    answer = family.encode_answer("A dog.")
    (found,) = answer_log_likelihood(family, prompts[:1], [answer])
    logits = family.answer_logits(prompts[:1], torch.full((1, len(answer)), family.tokens.mask))[0]
    torch.testing.assert_close(found, logits.log_softmax(dim=-1)[range(len(answer)), answer])


def test_gradients_flow_if_they_are_enabled(family: LladaV, prompts: list[Prompt]) -> None:
    (found,) = answer_log_likelihood(family, prompts[:1], [family.encode_answer("yes")])
    assert found.requires_grad
    assert answer_log_likelihood(family, [], []) == []
