"""Forget the projector, or a part of it, and learn it again: if the backdoor lives where vision meets language, it goes too.

Both are repairs of the weights alone and know nothing about the data; there is no trusted model to restore from, so what is
reset gets fresh random weights, as a projector has before its first training. Both then learn from the data at hand, the
poisoned set, which can teach the backdoor again.

Adapted: published repairs of adapters restore weights of a trusted model and tune on clean data; here there are neither.
`projector_reset` trains the projector alone, as the alignment stage of LLaVA does (arXiv:2304.08485), at that stage's rate of
1e-3: at the rate of the shared fine-tune a fresh projector would hardly learn. `channel_restore` goes on with the shared
fine-tune, as most of the projector still works.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from gpu_jobs.config import FinetuneParameters
from gpu_jobs.defense.training import generator
from gpu_jobs.families.base import Family
from gpu_jobs.redteam.baselines.answering import answerer
from gpu_jobs.redteam.baselines.base import Answerer, Baseline, Case
from gpu_jobs.redteam.baselines.training import train


@dataclass(frozen=True)
class ProjectorReset(Baseline):
    """learning_rate: for the fresh projector."""

    name: ClassVar[str] = "projector_reset"
    learning_rate: float = 1e-3

    def defend(self, case: Case) -> Answerer:
        given = case.parameters.finetune.model_dump()
        parameters = FinetuneParameters.model_validate({**given, "trainable": ("projector",), "learning_rate": self.learning_rate})
        reset = partial(reset_channels, share=1.0, seed=case.seed)
        return answerer(case, train(case, case.samples, parameters=parameters, prepare=reset))


@dataclass(frozen=True)
class ChannelRestore(Baseline):
    """share: of the output channels of each of the projector's linear layers that are reset, drawn at random."""

    name: ClassVar[str] = "channel_restore"
    share: float = 0.2

    def defend(self, case: Case) -> Answerer:
        return answerer(case, train(case, case.samples, prepare=partial(reset_channels, share=self.share, seed=case.seed)))


@torch.no_grad()
def reset_channels(family: Family, *, share: float, seed: int) -> None:
    """Give a random share of the output channels of every linear layer of the projector fresh weights, in place."""
    layers = [layer for layer in family.parts["projector"].modules() if isinstance(layer, nn.Linear)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "reset").initial_seed())
        for layer in layers:
            fresh = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            channels = torch.randperm(layer.out_features)[: round(share * layer.out_features)]
            for own, new in zip(layer.parameters(), fresh.parameters(), strict=True):
                own[channels.to(own.device)] = new[channels].to(own.device, own.dtype)
