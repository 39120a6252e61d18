"""DiSP as it was published (arXiv:2602.22246): every sample answered again, the projector trained back on the answers.

Kept of the published runs: the probes are not held constant in the gradient, six of them, five logits a position, 30 % of the
vision tokens, the projector alone at 1e-4 for four epochs. Not kept, because they are faults and no part of the method: one
caption prompt in place of each sample's own question, later turns left as they were, failures that keep a poisoned answer,
answers cut at 32 tokens.
"""

from __future__ import annotations

from typing import ClassVar

from gpu_jobs.config import PRESETS, FinetuneParameters, MaskingParameters
from gpu_jobs.defense.masking import salient_tokens
from gpu_jobs.defense.subject import load_model
from gpu_jobs.redteam.baselines.answering import answerer
from gpu_jobs.redteam.baselines.base import Answerer, Baseline, Case
from gpu_jobs.redteam.baselines.reanswering import reanswer
from gpu_jobs.redteam.baselines.training import train

MASKING = MaskingParameters(ratio=0.3, probes=6, top_k=5, detach_probes=False)


class Published(Baseline):
    """Its own masking and fine-tune, whatever those of the case; generation as everywhere."""

    name: ClassVar[str] = "published"

    def defend(self, case: Case) -> Answerer:
        renewed = reanswer(
            case,
            load_model(case.model),
            lambda subject, prompts, turns: salient_tokens(subject, prompts, turns, MASKING, case.seed),
        )
        return answerer(case, train(case, renewed, parameters=finetune_parameters(case)))


def finetune_parameters(case: Case) -> FinetuneParameters:
    """The published preset; what it does not name, such as the batch size, is the case's."""
    return FinetuneParameters.model_validate({**case.parameters.finetune.model_dump(), **PRESETS["published"]["finetune"]})
