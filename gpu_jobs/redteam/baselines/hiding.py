"""DiSP's loop with its saliency taken out: does it matter *which* vision tokens are hidden while samples are answered again?

Every sample is answered again and the suspect is fine-tuned on the answers; hidden is nothing, a random choice, or what the
answer attends to most. The ratio is that of the case for all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.masking import most_salient
from gpu_jobs.defense.subject import Subject, load_model
from gpu_jobs.defense.training import generator
from gpu_jobs.families.base import Family, Prompt
from gpu_jobs.redteam.baselines.attention import answer_attention, load_with_attention
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.reanswering import reanswer
from gpu_jobs.redteam.baselines.training import Retrained


class Reanswered(Retrained):
    """Every sample answered again by the suspect."""

    def training_samples(self, case: Case) -> list[Sample]:
        return reanswer(case, self.load(case), lambda subject, prompts, turns: self.choose(case, subject, prompts, turns))

    def load(self, case: Case) -> Family:
        return load_model(case.model)

    @abstractmethod
    def choose(self, case: Case, subject: Subject, prompts: Sequence[Prompt], turns: Sequence[tuple[Sample, int]]) -> list[list[int]]:
        """Indices of the vision tokens to hide in each prompt."""


class ReanswerPlain(Reanswered):
    """ρ = 0: the suspect repeats what it was taught; shows what answering again does by itself."""

    name: ClassVar[str] = "reanswer_plain"

    def choose(
        self,
        case: Case,  # noqa: ARG002 - nothing is hidden
        subject: Subject,  # noqa: ARG002
        prompts: Sequence[Prompt],
        turns: Sequence[tuple[Sample, int]],  # noqa: ARG002
    ) -> list[list[int]]:
        return [[] for _ in prompts]


class RandomHiding(Reanswered):
    """Random vision tokens at the same ρ; drawn for each sample and turn, so that batches do not matter."""

    name: ClassVar[str] = "random_hiding"

    def choose(
        self,
        case: Case,
        subject: Subject,  # noqa: ARG002 - the model has no say
        prompts: Sequence[Prompt],
        turns: Sequence[tuple[Sample, int]],
    ) -> list[list[int]]:
        hidden = []
        for prompt, (sample, turn) in zip(prompts, turns, strict=True):
            scores = torch.rand(len(prompt.vision), generator=generator(case.seed, self.name, sample.id, turn))
            hidden.append(most_salient(scores, case.parameters.masking.ratio).tolist())
        return hidden


class AttentionHiding(Reanswered):
    """The vision tokens that the masked answer block attends to most, over all heads and layers."""

    name: ClassVar[str] = "attention_hiding"

    def load(self, case: Case) -> Family:
        return load_with_attention(case.model)

    def choose(
        self,
        case: Case,
        subject: Subject,
        prompts: Sequence[Prompt],
        turns: Sequence[tuple[Sample, int]],  # noqa: ARG002 - nothing random
    ) -> list[list[int]]:
        return [most_salient(each.mean(dim=0), case.parameters.masking.ratio).tolist() for each in answer_attention(subject, prompts)]
