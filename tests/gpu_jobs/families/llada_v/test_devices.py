"""Every tensor is made on the model's device, whatever device indices and draws come from.

A GPU is needed to see all of it. Elsewhere the `meta` device, which computes shapes but no numbers, stands in: most
operations refuse to mix it with the CPU, just as CUDA does.
"""

from __future__ import annotations

import pytest
import torch

from gpu_jobs.config import GenerationParameters
from gpu_jobs.data.samples import Turn
from gpu_jobs.diffusion.likelihood import answer_log_likelihood
from gpu_jobs.diffusion.sampler import generate, guided_logits, most_confident
from gpu_jobs.families.base import Prompt, TrainingRow
from gpu_jobs.families.llada_v.family import LladaV
from tests.golden import CHECKPOINT, image

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
TURNS = (Turn("user", "<image>\nWhat is it?"), Turn("assistant", "A dog."))


@pytest.fixture(scope="module", params=["meta", pytest.param("cuda", marks=needs_gpu)])
def family(request: pytest.FixtureRequest) -> LladaV:
    family = LladaV.load(CHECKPOINT)
    family.network.to(request.param)
    return family


@pytest.fixture(scope="module")
def prompts(family: LladaV) -> list[Prompt]:
    """Two of one length: with others, transformers looks at numbers of the padding mask."""
    with torch.no_grad():
        return [family.prompt(family.see([image(0)]), TURNS[:1])] * 2


def rows(family: LladaV) -> list[TrainingRow]:
    return [TrainingRow(tuple(family.see([image(number)])), TURNS, torch.tensor([0])) for number in (0, 3)]


def test_prompts_are_where_the_model_is(family: LladaV, prompts: list[Prompt]) -> None:
    device = family.hidden_embedding.device
    assert [(prompt.embeddings.device, prompt.vision.device) for prompt in prompts] == [(device, device)] * 2


def test_tokens_to_hide_may_be_named_on_the_cpu(family: LladaV, prompts: list[Prompt]) -> None:
    assert family.hide(prompts[0], torch.tensor([1, 2])).embeddings.device == family.hidden_embedding.device


@torch.no_grad()
def test_answers_may_come_from_the_cpu(family: LladaV, prompts: list[Prompt]) -> None:
    answers = torch.full((2, 8), family.tokens.mask)
    logits = family.answer_logits(prompts, answers, columns=slice(2, 6))
    assert logits.device == family.hidden_embedding.device


@torch.no_grad()
def test_guidance_and_the_choice_of_tokens(family: LladaV, prompts: list[Prompt]) -> None:
    device = family.hidden_embedding.device
    logits = guided_logits(family, prompts, torch.full((2, 8), family.tokens.mask, device=device), slice(0, 8), 0.5)
    assert most_confident(logits[..., 0], torch.ones(2, 8, dtype=torch.bool, device=device), 3).device == device


@torch.no_grad()
def test_likelihoods(family: LladaV, prompts: list[Prompt]) -> None:
    found = answer_log_likelihood(family, prompts, [[1, 2, 3], [4]], block_length=8)
    assert [row.device for row in found] == [family.hidden_embedding.device] * 2


@pytest.mark.parametrize("conversation_mask", [False, True])
def test_training_batches(family: LladaV, conversation_mask: bool) -> None:
    batch = family.training_batch(rows(family), answer_length=16, conversation_mask=conversation_mask)
    assert batch.attended is not None
    assert {batch.embeddings.device, batch.labels.device, batch.attended.device} == {family.hidden_embedding.device}


@needs_gpu
def test_a_gpu_generates_and_learns_as_the_cpu_does() -> None:
    answers, losses = [], []
    for device in ("cpu", "cuda"):
        family = LladaV.load(CHECKPOINT, device=device)
        with torch.no_grad():
            prompts = [family.prompt(family.see([image(number)]), TURNS[:1]) for number in (0, 3)]
            answers.append(generate(family, prompts, GenerationParameters(block_length=8, steps_per_block=8), max_new_tokens=16))
            losses.append(family.loss(rows(family), torch.Generator().manual_seed(0), answer_length=16).cpu())
    assert answers[0] == answers[1]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=0)
