"""How likely a given answer is to a model that sees nothing of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpu_jobs.families.base import Family, Prompt


def answer_log_likelihood(
    family: Family, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], *, block_length: int | None = None
) -> list[Tensor]:
    """Log-probability of each token of an answer while the whole answer block is [MASK]: one forward, mean field.

    answers: one non-empty list of token ids for each prompt, `Family.encode_answer`'s with the end-of-turn token.
    block_length: [MASK]s shown to the model, at least as many as the answer has tokens; None shows exactly as many, which
        tells the model how long the answer is.
    Returns: for each answer float32 [tokens]. It does not depend on the other rows. Gradients flow if they are enabled.
    """
    if not prompts:
        return []
    shown = [max(len(answer), block_length or 0) for answer in answers]
    longest = max(len(answer) for answer in answers)
    device = prompts[0].embeddings.device
    blocks = torch.full((len(answers), max(shown)), family.tokens.mask, device=device)
    targets = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers], device=device)
    logits = family.answer_logits(prompts, blocks, lengths=shown, columns=slice(0, longest)).float()
    log_probabilities = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(dim=-1)  # [batch, longest]
    return [row[: len(answer)] for row, answer in zip(log_probabilities, answers, strict=True)]
