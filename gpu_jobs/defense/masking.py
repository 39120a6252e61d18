"""Choosing the vision tokens to hide from their saliency, as DiSP does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gpu_jobs.config import MaskingParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.saliency import fisher_jacobian, probe_noise
from gpu_jobs.defense.subject import Subject
from gpu_jobs.families.base import Prompt


def score_tokens(
    subject: Subject, prompts: Sequence[Prompt], turns: Sequence[tuple[Sample, int]], masking: MaskingParameters, seed: int
) -> list[Tensor]:
    """The saliency of each prompt's vision tokens: [vision tokens] float64.

    turns: the sample and the answer turn that each prompt is for; the probes depend on them and on the seed alone.
    """
    shape = {"probes": masking.probes, "positions": subject.block_length, "top_k": masking.top_k}
    noise = [probe_noise(seed, f"{sample.id}\0{turn}", **shape) for sample, turn in turns]
    return fisher_jacobian(subject.family, prompts, noise, answer_length=subject.answer_length, detach_probes=masking.detach_probes)


def salient_tokens(
    subject: Subject, prompts: Sequence[Prompt], turns: Sequence[tuple[Sample, int]], masking: MaskingParameters, seed: int
) -> list[list[int]]:
    """For each prompt the indices of the vision tokens to hide, ascending."""
    return [most_salient(scores, masking.ratio).tolist() for scores in score_tokens(subject, prompts, turns, masking, seed)]


def most_salient(scores: Tensor, ratio: float) -> Tensor:
    """Indices of the ⌊ratio · n⌋ highest of n scores, ascending; of equal scores the first ones.

    Base view, any-resolution views and row separators are ranked together.
    """
    # The small addend keeps products such as 0.29 * 100 = 28.999… from losing a token to rounding.
    count = math.floor(ratio * len(scores) + 1e-9)
    return torch.argsort(scores, descending=True, stable=True)[:count].sort().values
