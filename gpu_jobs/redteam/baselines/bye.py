"""BYE, adapted (Rong et al., arXiv:2505.16916): drop the samples whose answer looks at too few vision tokens, retrain on the rest.

The entropy of the attention to the vision tokens is taken in each layer, a mixture of two normal distributions is fitted to it
layer by layer, layers whose components lie at least 2.0 sums of their deviations apart are kept, and the samples in the lower
component of the mean over the kept layers are dropped. Where no layer separates, nothing is dropped.

Adapted to a diffusion model in three ways. The answer is not read token by token, so the query is the answer block, all masked,
of the first answer turn. Pictures become different numbers of vision tokens, so the entropy is divided by its largest
value. And the published method trains the model before the attack on what is left; here every baseline starts from the suspect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.records import SetAside
from gpu_jobs.defense.subject import open_images
from gpu_jobs.errors import InputError
from gpu_jobs.redteam.baselines.answering import subject_of
from gpu_jobs.redteam.baselines.attention import answer_attention, load_with_attention
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.mixture import fit_mixture
from gpu_jobs.redteam.baselines.training import Retrained


@dataclass(frozen=True)
class Bye(Retrained):
    """separation: that a layer must reach to be kept."""

    name: ClassVar[str] = "bye"
    separation: float = 2.0

    def training_samples(self, case: Case) -> list[Sample]:
        looked_at = [sample for sample in case.samples if sample.images and sample.answer_turns]
        if not looked_at:
            return list(case.samples)
        low = collapsed(attention_entropies(case, looked_at), self.separation)
        dropped = {sample.id for sample, is_low in zip(looked_at, low.tolist(), strict=True) if is_low}
        return [sample for sample in case.samples if sample.id not in dropped]


def collapsed(entropies: NDArray[np.float64], separation: float) -> NDArray[np.bool_]:
    """Which samples have collapsed attention: [samples], from entropies [samples, layers]."""
    kept = [layer for layer in entropies.T if fit_mixture(layer).separation >= separation]
    if not kept:
        return np.zeros(len(entropies), dtype=bool)
    mean = np.mean(kept, axis=0)
    return fit_mixture(mean).is_low(mean)


def attention_entropies(case: Case, samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Of each sample in each layer, as parts of the largest possible: [samples, layers].

    Raises:
        InputError: a sample cannot be put before the model.
    """
    subject = subject_of(case, load_with_attention(case.model))

    def look(some: Sequence[Sample]) -> list[Tensor]:
        seen = subject.see([open_images(sample) for sample in some])
        prompts = [subject.prompt(own, sample.turns[: sample.answer_turns[0]]) for sample, own in zip(some, seen, strict=True)]
        return [normalised_entropy(each) for each in answer_attention(subject, prompts)]

    rows: list[Tensor] = []
    for batch in in_batches(samples, case.parameters.batch_size, look):
        for result in batch:
            if isinstance(result, SetAside):
                raise InputError(f"sample {result.id} cannot be looked at: {result.reason}")
            rows.append(result)
    return np.asarray(torch.stack(rows).double().numpy())


def normalised_entropy(attention: Tensor) -> Tensor:
    """Of the attention among the vision tokens, 0 for one token and 1 for all alike: [layers, vision tokens] → [layers]."""
    shares = attention / attention.sum(dim=-1, keepdim=True)
    entropy: Tensor = -torch.special.xlogy(shares, shares).sum(dim=-1)
    return entropy / math.log(max(attention.shape[-1], 2))
