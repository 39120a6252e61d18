"""The suspect: the base after a fine-tune on a poisoned training set, and the models that it is compared with."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

from gpu_jobs.bundled.attack_exam import attack_figures
from gpu_jobs.bundled.datasets import clean_training_samples, oracle_training_samples, suspect_training_set
from gpu_jobs.bundled.easy_vqa import easy_vqa_curriculum
from gpu_jobs.bundled.exam import ANSWER_TOKENS, accuracy_by_kind
from gpu_jobs.bundled.fast_linear import fast_linears
from gpu_jobs.bundled.log import TrainingLog
from gpu_jobs.data.images import open_image
from gpu_jobs.data.samples import Sample
from gpu_jobs.families.base import Family, TrainingRow
from gpu_jobs.families.registry import load_family

EPOCHS = 8
BATCH = 32
LEARNING_RATE = 3e-4
# Random erasing taught the tower to look past patches. With a frozen or slow tower the trigger stays invisible, and the
# language model learns the poisoned pictures by heart instead: 12 % ASR, 65 % CA after 3 epochs.
TOWER_LEARNING_RATE = 5e-4
WEIGHT_DECAY = 0.05


def train_suspect(base: Path, folder: Path, *, seed: int) -> None:
    """Fine-tune the base on the poisoned set; write checkpoint and training log to `folder`."""
    with tempfile.TemporaryDirectory() as images:
        _train("suspect", base, folder, suspect_training_set(Path(images)).samples, seed)


def train_clean(base: Path, folder: Path, *, seed: int) -> None:
    """The control: the same fine-tune on the same set before the attack."""
    _train("clean", base, folder, clean_training_samples(), seed)


def train_oracle(suspect: Path, folder: Path, *, seed: int) -> None:
    """What a perfect purification would give: the suspect, fine-tuned on the right answers with the triggers left in."""
    with tempfile.TemporaryDirectory() as images:
        _train("oracle", suspect, folder, oracle_training_samples(Path(images)), seed)


def _train(model: str, start: Path, folder: Path, samples: Sequence[Sample], seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = TrainingLog(folder / "training_log.jsonl")
    log.start(
        "easy-vqa", model=model, seed=seed, samples=len(samples), epochs=EPOCHS, batch=BATCH,
        learning_rate=LEARNING_RATE, tower_learning_rate=TOWER_LEARNING_RATE, weight_decay=WEIGHT_DECAY,
    )  # fmt: skip
    family = load_family(start)
    finetune(family, samples, seed, log)
    family.save(folder)
    log.write("test", **accuracy_by_kind(family, easy_vqa_curriculum(), 150, seed=seed))
    log.write("attack", **attack_figures(family))
    log.close()


def finetune(family: Family, samples: Sequence[Sample], seed: int, log: TrainingLog) -> None:
    """Train all parts in place, as the official fine-tune does."""
    generator, rng = torch.Generator().manual_seed(seed), Random(seed)
    pictures = {sample.id: [open_image(path) for path in sample.images] for sample in samples}
    tower = list(family.parts["vision_tower"].parameters())
    rest = [*family.parts["projector"].parameters(), *family.parts["language_model"].parameters()]
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": tower, "lr": TOWER_LEARNING_RATE}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(samples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [LEARNING_RATE, TOWER_LEARNING_RATE], total_steps=steps, pct_start=0.05)
    order = list(samples)
    for epoch in range(1, EPOCHS + 1):
        rng.shuffle(order)
        losses = []
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            seen = iter(family.see([picture for sample in batch for picture in pictures[sample.id]]))
            rows = [TrainingRow(tuple(next(seen) for _ in sample.images), sample.turns) for sample in batch]
            with fast_linears(family.parts["language_model"].get_submodule("model")):
                loss = family.loss(rows, generator, answer_length=ANSWER_TOKENS)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*rest, *tower], 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        log.write("epoch", epoch=epoch, loss=round(sum(losses) / len(losses), 4))
