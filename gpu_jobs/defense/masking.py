"""Choosing the vision tokens to hide from their saliency."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def most_salient(scores: Tensor, ratio: float) -> Tensor:
    """Indices of the ⌊ratio · n⌋ highest of n scores, ascending; of equal scores the first ones.

    Base view, any-resolution views and row separators are ranked together, as DiSP does.
    """
    # The small addend keeps products such as 0.29 * 100 = 28.999… from losing a token to rounding.
    count = math.floor(ratio * len(scores) + 1e-9)
    return torch.argsort(scores, descending=True, stable=True)[:count].sort().values
