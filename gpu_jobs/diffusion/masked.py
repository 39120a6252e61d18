"""Corruption and loss of masked diffusion language models (LLaDA, arXiv:2502.09992; LLaDA-V, arXiv:2505.16933)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# A row's masking probability is never below this, so that dividing by it stays bounded.
MIN_MASK_PROBABILITY = 1e-3


@dataclass(frozen=True, slots=True)
class Draws:
    """The randomness of one corruption, uniform in [0, 1): time [batch], noise [batch, length]."""

    time: Tensor
    noise: Tensor


def draw(batch: int, length: int, generator: torch.Generator) -> Draws:
    """Draws on the generator's device."""
    device = generator.device
    time = torch.rand(batch, generator=generator, device=device)
    return Draws(time, torch.rand(batch, length, generator=generator, device=device))


def corrupt(supervised: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Which positions turn into [MASK].

    supervised: [batch, length] bool; only these can.
    Returns: masked [batch, length] bool, and the probability [batch] with which each row's positions were masked,
        (1 − 1e-3)·t + 1e-3.
    """
    probability = (1 - MIN_MASK_PROBABILITY) * draws.time.to(supervised.device) + MIN_MASK_PROBABILITY
    return supervised & (draws.noise.to(supervised.device) < probability[:, None]), probability


def masked_cross_entropy(logits: Tensor, targets: Tensor, masked: Tensor, probability: Tensor, supervised: Tensor) -> Tensor:
    """Cross-entropy at the masked positions, ÷ masking probability, ÷ supervised length of the row, ÷ batch; a scalar.

    logits: [number masked, vocab] at the positions where `masked` is True, in its row-major order.
    targets: [batch, length] int64.
    masked, supervised: [batch, length] bool. probability: [batch].
    A row with nothing masked adds 0.
    """
    rows = masked.nonzero()[:, 0]
    weights = 1 / (probability * supervised.sum(dim=1))
    entropy = nn.functional.cross_entropy(logits.float(), targets[masked], reduction="none")
    return (entropy * weights[rows]).sum() / len(masked)
