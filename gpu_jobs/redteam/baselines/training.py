"""The fine-tune that all baselines share: from the suspect, with the defence's own trainer, kept in memory.

Baselines differ in what they train on, so everything else must be the same as in the defence's own fine-tune: the parts that
learn, the rate, the schedule, the length that answers are padded to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from gpu_jobs.bundled.fast_linear import fast_linears
from gpu_jobs.config import ALL_PARTS, FinetuneParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.subject import load_model, open_images
from gpu_jobs.defense.training import Trainer
from gpu_jobs.defense.training_run import default_learning_rate, make_trainable
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Family, SeenImage, TrainingRow
from gpu_jobs.redteam.baselines.answering import answerer, subject_of
from gpu_jobs.redteam.baselines.base import Answerer, Baseline, Case


class Retrained(Baseline):
    """A baseline that only chooses what the suspect is trained on: two that choose the same come to the same."""

    def defend(self, case: Case) -> Answerer:
        return self.retrain(case, self.training_samples(case))

    def retrain(self, case: Case, samples: Sequence[Sample]) -> Answerer:
        return answerer(case, train(case, samples))

    @abstractmethod
    def training_samples(self, case: Case) -> list[Sample]:
        """The training set after the defence."""


def train(
    case: Case,
    samples: Sequence[Sample],
    *,
    parameters: FinetuneParameters | None = None,
    prepare: Callable[[Family], None] | None = None,
) -> Family:
    """The suspect, fine-tuned on some samples, frozen and ready to be asked.

    parameters: None for those of the case.
    prepare: changes the suspect's weights before the fine-tune.

    Raises:
        InputError: no sample has an answer to learn from, or a picture cannot be read.
    """
    parameters = parameters or case.parameters.finetune
    parts = parameters.trainable or ALL_PARTS
    answered = [sample for sample in samples if sample.answer_turns]
    if not answered:
        raise InputError("no sample is left to train on")
    family = load_model(case.model, precise=True)
    if prepare is not None:
        prepare(family)
    adapted = make_trainable(family, parts, parameters, case.seed)
    trainer = Trainer(
        family,
        len(answered),
        _Rows(family, answered, tower_learns="vision_tower" in parts),
        parameters,
        learning_rate=parameters.learning_rate or default_learning_rate(family),
        answer_length=subject_of(case, family).answer_length,
        seed=case.seed,
    )
    with _fast_on_cpu(family):
        for _ in trainer.run():
            pass
    if adapted is not None:
        adapted.merge_and_unload()
    _freeze(family)
    return family


class _Rows:
    """Training rows from memory: decoded pictures, and what a tower that does not learn made of them."""

    def __init__(self, family: Family, samples: Sequence[Sample], *, tower_learns: bool) -> None:
        self._family = family
        self._samples = samples
        self._tower_learns = tower_learns
        self._pictures = {sample.id: open_images(sample) for sample in samples}
        self._seen: dict[str, tuple[SeenImage, ...]] = {}

    def __call__(self, numbers: Sequence[int]) -> list[TrainingRow]:
        some = [self._samples[number] for number in numbers]
        if self._tower_learns:
            self._seen.clear()
        unseen = [sample for sample in some if sample.id not in self._seen]
        with torch.set_grad_enabled(self._tower_learns):
            seen = iter(self._family.see([picture for sample in unseen for picture in self._pictures[sample.id]]))
        self._seen |= {sample.id: tuple(next(seen) for _ in sample.images) for sample in unseen}
        return [TrainingRow(self._seen[sample.id], sample.turns) for sample in some]


@contextmanager
def _fast_on_cpu(family: Family) -> Iterator[None]:
    """About 1.5 times faster on processors that multiply in bfloat16 (`fast_linears`); an accelerator has the trainer's own autocast."""
    if _on_gpu(family):
        yield
        return
    with fast_linears(family.parts["language_model"].get_submodule("model")):
        yield


def _freeze(family: Family) -> None:
    """Leave the family as `load_model` would load it from disk: answers must not depend on who trained the weights."""
    family.network.eval().requires_grad_(False)
    if _on_gpu(family):
        for weight in family.network.parameters():  # buffers, the rotary frequencies, stay in float32
            weight.data = weight.data.bfloat16()


def _on_gpu(family: Family) -> bool:
    return next(family.network.parameters()).is_cuda
