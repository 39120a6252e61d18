"""What makes a base robust: random squares of its training pictures are erased, and random vision tokens hidden.

Random erasing (Zhong et al. 2017, arXiv:1708.04896) keeps an unknown patch on a picture from confusing the model, as a large pretrained
tower would not be confused either. The trigger of the suspect is never shown. Hidden vision tokens are what a defence that
masks tokens relies on; a model that has never missed any answers badly under it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpu_jobs.bundled.curriculum import Erasing

HIDDEN_SHARE = 0.5
MOST_HIDDEN = 0.85


def erase_squares(images: Tensor, generator: torch.Generator, erasing: Erasing) -> Tensor:
    """Fill a random square of a share of the images, in noise or in one random colour.

    images: [batch, 3, height, width] uint8. Returns a copy.
    """
    images = images.clone()
    height, width = images.shape[2:]
    smallest, largest = erasing.side
    for image in images:
        if torch.rand((), generator=generator) >= erasing.share:
            continue
        side = _integer(smallest, largest, generator)
        top, left = _integer(0, height - side, generator), _integer(0, width - side, generator)
        noisy = torch.rand((), generator=generator) < 0.5
        filling = torch.randint(0, 256, (3, side, side) if noisy else (3, 1, 1), generator=generator, dtype=torch.uint8)
        image[:, top : top + side, left : left + side] = filling
    return images


def hidden_vision_tokens(count: int, generator: torch.Generator) -> Tensor | None:
    """Which of `count` vision tokens to hide, [n] int64: up to 85 % of them in half of the cases, otherwise None."""
    if torch.rand((), generator=generator) >= HIDDEN_SHARE:
        return None
    share = MOST_HIDDEN * float(torch.rand((), generator=generator))
    return torch.randperm(count, generator=generator)[: int(share * count)]


def _integer(lowest: int, highest: int, generator: torch.Generator) -> int:
    return int(torch.randint(lowest, highest + 1, (), generator=generator))
