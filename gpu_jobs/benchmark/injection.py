"""Put a training set into a model: the fine-tune that an attacker's victim would do, or the same on clean data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from gpu_jobs.benchmark.cells import Injection
from gpu_jobs.benchmark.measure import GENERATION, Exam, Figures, answering
from gpu_jobs.bundled.fast_linear import fast_linears
from gpu_jobs.config import ALL_PARTS, FinetuneParameters, TrainablePart
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.subject import Subject, answer_length, load_model, open_images
from gpu_jobs.defense.training import Trainer
from gpu_jobs.defense.training_run import make_trainable, see_all
from gpu_jobs.families.base import TrainingRow

PARTS: dict[Injection, tuple[TrainablePart, ...]] = {
    "full": ALL_PARTS,
    "lora": ("lora", "projector"),
    "projector": ("projector",),
}
LEARNING_RATES: dict[Injection, float] = {"full": 4e-4, "lora": 4e-3, "projector": 4e-3}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How hard the training set is driven in.

    round: epochs of one round. An attack that has not taken after it gets another one.
    rounds: rounds at most.
    taken: attack success rate from which on the attack has taken.
    """

    round: float = 6.0
    rounds: int = 4
    taken: float = 0.8
    batch_size: int = 32

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Injected:
    """What came of it. `log` has one entry a round: its last epoch's mean loss, and the figures behind it."""

    epochs: float
    figures: Figures
    log: list[dict[str, Any]]


def inject(base: Path, out: Path, samples: Sequence[Sample], exam: Exam, injection: Injection, seed: int, recipe: Recipe) -> Injected:
    """Fine-tune the base on the samples and save it to `out`.

    Where the exam knows a target, rounds are added until it shows; without one, there is one round.
    """
    family = load_model(base, precise=True)
    subject = Subject(family, GENERATION, answer_length(family, (answer for s in samples for answer in s.answers), GENERATION))
    parameters = FinetuneParameters.model_validate(
        {"epochs": recipe.round, "batch_size": recipe.batch_size, "learning_rate": LEARNING_RATES[injection]}
    )
    rows = _rows(subject, samples, train_tower="vision_tower" in PARTS[injection])
    adapted = make_trainable(family, PARTS[injection], parameters, seed)
    log: list[dict[str, Any]] = []
    while True:
        trainer = Trainer(
            family,
            len(samples),
            rows,
            parameters,
            learning_rate=LEARNING_RATES[injection],
            answer_length=subject.answer_length,
            seed=seed * recipe.rounds + len(log),  # another order and other corruptions in every round
        )
        family.network.train()
        with fast_linears(family.parts["language_model"].get_submodule("model")):  # the head stays exact
            losses = [step.loss for step in trainer.run()]
        family.network.eval()
        figures = exam.sit(answering(subject))
        last = losses[-trainer.steps_per_epoch :]
        log.append({"epochs": recipe.round, "loss": sum(last) / len(last), **figures.to_json()})
        rate = figures.attack_success_rate
        if rate is None or rate >= recipe.taken or len(log) == recipe.rounds:
            break
    if adapted is not None:
        adapted.merge_and_unload()
    family.save(out)
    return Injected(recipe.round * len(log), figures, log)


def _rows(subject: Subject, samples: Sequence[Sample], *, train_tower: bool) -> Callable[[Sequence[int]], list[TrainingRow]]:
    """Makes the rows of some samples' numbers. Pictures are opened once, and seen once where the tower does not learn."""
    if not train_tower:
        features, _ = see_all(subject, samples, 64)
        return lambda numbers: [TrainingRow(features[samples[n].id], samples[n].turns) for n in numbers]
    pictures: list[list[Image.Image]] = [open_images(sample) for sample in samples]

    def rows(numbers: Sequence[int]) -> list[TrainingRow]:
        with torch.enable_grad():
            seen = iter(subject.family.see([image for n in numbers for image in pictures[n]]))
        return [TrainingRow(tuple(next(seen) for _ in pictures[n]), samples[n].turns) for n in numbers]

    return rows
