"""Block-wise denoising of answers, as LLaDA-V generates (low-confidence remasking, arXiv:2502.09992).

An answer starts as [MASK]s. Block after block, every step predicts all tokens of the block and commits the most confident
ones. Rows of a batch run in lockstep and leave it once finished, so each row's tokens are those it would get alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpu_jobs.config import GenerationParameters
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import AnswerTokens, Family, Prompt


@torch.no_grad()
def generate(
    family: Family,
    prompts: Sequence[Prompt],
    parameters: GenerationParameters,
    *,
    max_new_tokens: int,
    seed: int = 0,
    stop_at_end_of_turn: bool = True,
    guidance_scale: float = 0.0,
    suffix: Sequence[int] = (),
) -> list[list[int]]:
    """Answer every prompt with at most `max_new_tokens` tokens.

    `parameters.max_new_tokens` is not consulted: what null means there is the caller's to decide. The last block is shorter
    where the block length does not divide `max_new_tokens`. With a temperature, rows see the same noise, so a row's
    answer depends on `seed` and its prompt alone; draw several answers to one prompt with several seeds.

    guidance_scale: strength of classifier-free guidance (see `guided_logits`); above 0 it doubles the cost.
    suffix: token ids that stand behind the `max_new_tokens` from the start, for the answer to lead up to.

    Returns: for each prompt the tokens before the first end-of-turn token; all of them, whatever they are, if
        `stop_at_end_of_turn` is False. The suffix is not repeated.
    """
    if not prompts:
        return []
    tokens = family.tokens
    device = prompts[0].embeddings.device
    block_and_suffix = torch.tensor([*[tokens.mask] * max_new_tokens, *suffix], device=device)
    columns = torch.arange(len(block_and_suffix), device=device)
    answers = block_and_suffix.repeat(len(prompts), 1)
    unfilled = (columns < max_new_tokens).repeat(len(prompts), 1)
    # Position of each row's first end-of-turn token so far; nothing at or behind it matters any more.
    stops = torch.full((len(prompts),), max_new_tokens, device=device)
    noise = torch.Generator().manual_seed(seed)

    for start in range(0, max_new_tokens, parameters.block_length):
        block = slice(start, min(start + parameters.block_length, max_new_tokens))
        for count in commits_per_step(block.stop - start, parameters.steps_per_block):
            wanted = unfilled & (columns < stops[:, None])
            rows = wanted[:, block].any(dim=1).nonzero()[:, 0]
            if len(rows) == 0:
                break
            logits = guided_logits(family, [prompts[row] for row in rows.tolist()], answers[rows], block, guidance_scale)
            predicted, odds_against = predict(logits, tokens, parameters.temperature, noise)
            chosen = most_confident(odds_against, wanted[rows, block], count)
            answers[rows, block] = torch.where(chosen, predicted, answers[rows, block])
            unfilled[rows, block] &= ~chosen
            if stop_at_end_of_turn:
                ended = (answers == tokens.end_of_turn) & ~unfilled
                stops = torch.where(ended, columns, max_new_tokens).amin(dim=1)
    return [row[:stop].tolist() for row, stop in zip(answers, stops.tolist(), strict=True)]


def guided_logits(family: Family, prompts: Sequence[Prompt], answers: Tensor, columns: slice, scale: float) -> Tensor:
    """`Family.answer_logits`, moved away from what the model would say without the prompt: blank + (1 + scale) · (given − blank).

    Unsupervised classifier-free guidance (arXiv:2410.18514): the whole prompt, text and vision, is hidden for `blank`.
    """
    if scale == 0:
        return family.answer_logits(prompts, answers, columns=columns)
    blanks = [replace(prompt, embeddings=family.hidden_embedding.expand_as(prompt.embeddings)) for prompt in prompts]
    given, blank = family.answer_logits([*prompts, *blanks], answers.repeat(2, 1), columns=columns).float().chunk(2)
    return blank + (1 + scale) * (given - blank)


def commits_per_step(masked: int, steps: int) -> list[int]:
    """How many positions each step commits: an even split, the remainder on the first steps; steps without any are left out.

    commits_per_step(12, 5) == [3, 3, 2, 2, 2]
    """
    even, remainder = divmod(masked, steps)
    return [count for step in range(steps) if (count := even + (step < remainder))]


def predict(logits: Tensor, tokens: AnswerTokens, temperature: float, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """The token predicted at each position, and the odds against it: (1 − p) / p, with p its softmax probability.

    logits: [rows, block, vocab]; the suppressed tokens and [MASK] are never predicted and have no share in p.
    The odds rank positions just as p does, but stay apart where p rounds to 1, so float32 over the vocabulary suffices.

    Returns: two tensors of [rows, block].

    Raises:
        InputError: the logits are not all numbers.
    """
    never = torch.tensor([*tokens.suppressed, tokens.mask], device=logits.device)
    logits = logits.float().index_fill(-1, never, -torch.inf)
    if temperature > 0:
        # Gumbel-max in float64: in lower precision the noise is biased towards likely tokens (arXiv:2409.02908).
        uniform = torch.rand(logits.shape[1:], generator=noise, dtype=torch.float64).to(logits.device)
        predicted = (logits.double() - temperature * (-uniform.log()).log()).argmax(dim=-1)
    else:
        predicted = logits.argmax(dim=-1)
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    own = weights.gather(-1, predicted[..., None])
    others = weights.scatter(-1, predicted[..., None], 0.0).sum(dim=-1)
    odds_against = others / own[..., 0]
    if odds_against.isnan().any():
        raise InputError("the model's logits are not all numbers: its weights overflow in this number type, or are broken")
    return predicted, odds_against


def most_confident(odds_against: Tensor, wanted: Tensor, count: int) -> Tensor:
    """The `count` positions of each row that are wanted and have the least odds against them; all wanted ones if they are fewer.

    odds_against: [rows, block]; wanted: [rows, block] bool. Returns: [rows, block] bool. Of equals, the leftmost.
    """
    finite = odds_against.clamp(max=torch.finfo(odds_against.dtype).max)  # a wanted position always ranks before an unwanted one
    order = finite.masked_fill(~wanted, torch.inf).argsort(dim=1, stable=True)
    return torch.zeros_like(wanted).scatter(1, order[:, :count], True) & wanted
