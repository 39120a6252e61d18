"""Which vision tokens move the answer: the Fisher–Jacobian saliency of DiSP (arXiv:2602.22246).

The score of a vision token estimates how far the distribution of the answer would move, in the metric of its Fisher
information, if the embedding of that token became the one of [MASK]. One forward over prompt and all-masked answer,
then one backward for each Hutchinson probe, all samples of a batch at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpu_jobs.families.base import Family, Prompt


def probe_noise(seed: int, key: str, *, probes: int, positions: int, top_k: int) -> Tensor:
    """Standard normal draws [probes, positions, top_k], float64, that depend on `seed` and `key` alone.

    A sample's noise must not depend on its batch or shard: the same sample is scored the same by any number of workers.
    """
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(probes, positions, top_k, dtype=torch.float64, generator=generator)


def fisher_jacobian(
    family: Family, prompts: Sequence[Prompt], noise: Sequence[Tensor], *, answer_length: int, detach_probes: bool = False
) -> list[Tensor]:
    """Scores of every vision token of every prompt.

    Args:
        noise: for each prompt [probes, positions, top_k]; `positions` is the length of the first answer block.
        answer_length: masked tokens behind the prompt, first block included.
        detach_probes: hold the probes constant in the gradient, as a textbook Hutchinson estimate does. The published
            runs did not: there the gradient flows through the probe as well, because it is a function of the probabilities.

    Returns: for each prompt [vision tokens] float64 on the CPU.
    """
    normal = torch.stack(list(noise), dim=1)  # [probes, batch, positions, top_k]
    positions, top_k = normal.shape[2:]
    leaves = [prompt.embeddings.detach().requires_grad_() for prompt in prompts]
    masked = torch.full((len(prompts), answer_length), family.tokens.mask, dtype=torch.int64)
    with torch.enable_grad():
        live = [replace(prompt, embeddings=leaf) for prompt, leaf in zip(prompts, leaves, strict=True)]
        logits = family.answer_logits(live, masked)[:, :positions]  # [batch, positions, vocab]
        kept = logits.topk(top_k, dim=-1).values.double()  # [batch, positions, top_k]
        probe = _fisher_probes(kept.softmax(dim=-1), normal.to(kept.device))
        if detach_probes:
            probe = probe.detach()
        # Rows do not see each other, so the sum over the batch has each row's own gradient.
        sums = (probe * kept).sum(dim=(1, 2, 3))  # [probes]

    squares = [torch.zeros(len(prompt.vision), dtype=torch.float64) for prompt in prompts]
    moves = [(family.hidden_embedding - prompt.embeddings.detach()[prompt.vision]).double() for prompt in prompts]
    for number in range(len(sums)):
        gradients = torch.autograd.grad(sums[number], leaves, retain_graph=number + 1 < len(sums))
        for square, gradient, prompt, move in zip(squares, gradients, prompts, moves, strict=True):
            square.add_((gradient[prompt.vision].double() * move).sum(dim=-1).square().cpu())
    return [0.5 * square / len(sums) for square in squares]


def _fisher_probes(probabilities: Tensor, normal: Tensor) -> Tensor:
    """Draws from N(0, diag(p) − p pᵀ), the Fisher information of a softmax: [probes, batch, positions, top_k]."""
    root = probabilities.sqrt()
    return root * (normal - (normal * root).sum(dim=-1, keepdim=True) * root)
