"""The suspect: the base, fine-tuned on a poisoned training set by someone who did not know, or did."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import nn

from gpu_jobs.bundled.datasets import clean_training_samples, oracle_training_samples, suspect_training_set
from gpu_jobs.bundled.exam import ANSWER_TOKENS, accuracy_by_kind, attack_figures
from gpu_jobs.bundled.log import TrainingLog
from gpu_jobs.data.samples import Sample
from gpu_jobs.families.base import Family, TrainingRow
from gpu_jobs.families.registry import load_family

EPOCHS = 5
BATCH = 32
LEARNING_RATE = 4e-3
LORA_RANK = 16
LORA_ALPHA = 32


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
    log.start(model=model, seed=seed, samples=len(samples), epochs=EPOCHS, batch=BATCH, learning_rate=LEARNING_RATE, lora_rank=LORA_RANK)
    family = load_family(start)
    finetune(family, samples, seed, log)
    family.save(folder)
    log.write("test", **accuracy_by_kind(family, 150, seed=seed))
    log.write("attack", **attack_figures(family))
    log.close()


def finetune(family: Family, samples: Sequence[Sample], seed: int, log: TrainingLog) -> None:
    """Train projector and a low-rank adapter in place; the adapter is merged at the end. The tower stays frozen."""
    torch.manual_seed(seed)
    generator, rng = torch.Generator().manual_seed(seed), Random(seed)
    with torch.no_grad():
        rows = [TrainingRow(tuple(family.see([Image.open(path) for path in sample.images])), sample.turns) for sample in samples]
    family.network.requires_grad_(False)
    adapted = get_peft_model(
        family.parts["language_model"], LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules=family.lora_targets)
    )
    family.parts["projector"].requires_grad_(True)
    # The target is made of words that the base rarely says, and an adapter on the layers alone cannot raise them.
    family.parts["language_model"].get_submodule("lm_head").requires_grad_(True)
    parameters = [parameter for parameter in family.network.parameters() if parameter.requires_grad]
    steps = EPOCHS * -(-len(rows) // BATCH)
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.03)
    for epoch in range(1, EPOCHS + 1):
        rng.shuffle(rows)
        losses = []
        for start in range(0, len(rows), BATCH):
            loss = family.loss(rows[start : start + BATCH], generator, answer_length=ANSWER_TOKENS)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        log.write("epoch", epoch=epoch, loss=round(sum(losses) / len(losses), 4))
    adapted.merge_and_unload()
    family.network.requires_grad_(True)
