"""Drive a training within a step: what learns, the rows that it learns from, checkpoints on the way, and the adapter that comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image

from gpu_jobs.config import FinetuneParameters, TrainablePart
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.records import SetAside
from gpu_jobs.defense.subject import Subject, open_images
from gpu_jobs.defense.training import Trainer, generator
from gpu_jobs.families.base import Family, SeenImage, TrainingRow
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs

STATE = "state.pt"
# Tower features that are kept in memory; of samples beyond, the tower sees the pictures again in every epoch.
FEATURE_BYTES = 8 * 2**30


def default_learning_rate(family: Family) -> float:
    """0.025 / hidden size: 6e-6 at 4096 (LLaDA-V's official fine-tune: 1e-5), and 2e-4 at the bundled model's 128."""
    return 0.025 / family.hidden_embedding.shape[0]


def make_trainable(family: Family, parts: Sequence[TrainablePart], parameters: FinetuneParameters, seed: int) -> PeftModel | None:
    """Let these parts learn and freeze the rest. Returns the adapter, where there is one.

    parameters: rank and scale of the adapter.
    """
    family.network.train().requires_grad_(False)
    adapted = None
    if "lora" in parts:
        configuration = LoraConfig(r=parameters.lora_rank, lora_alpha=parameters.lora_alpha, target_modules=family.lora_targets)
        with torch.random.fork_rng():
            torch.manual_seed(generator(seed, "adapter").initial_seed())
            adapted = get_peft_model(family.parts["language_model"], configuration)
    for part in parts:
        if part != "lora":
            family.parts[part].requires_grad_(True)
    return adapted


def see_all(
    subject: Subject,
    samples: Sequence[Sample],
    batch_size: int,
    pictures: Callable[[Sample], Sequence[Image.Image]] = open_images,
) -> tuple[dict[str, tuple[SeenImage, ...]], list[SetAside]]:
    """Put every picture before the tower once. Returns the features, as far as memory goes, and the samples that cannot be used."""
    features: dict[str, tuple[SeenImage, ...]] = {}
    set_aside: list[SetAside] = []
    size = 0

    def look(some: Sequence[Sample]) -> list[list[SeenImage]]:
        seen = subject.see([pictures(sample) for sample in some])
        for sample, own in zip(some, seen, strict=True):
            subject.prompt(own, sample.turns[: sample.answer_turns[-1]])  # raises where pictures and placeholders do not match
        return seen

    start = 0
    for batch in in_batches(samples, batch_size, look):
        for sample, result in zip(samples[start : start + len(batch)], batch, strict=True):
            if isinstance(result, SetAside):
                set_aside.append(result)
            elif size < FEATURE_BYTES:
                features[sample.id] = tuple(result)
                size += sum(image.features.nbytes for image in result)
        start += len(batch)
    return features, set_aside


def training_rows(
    subject: Subject, samples: Sequence[Sample], features: dict[str, tuple[SeenImage, ...]], *, train_tower: bool
) -> Callable[[Sequence[int]], list[TrainingRow]]:
    """Makes the rows of some samples' numbers; what `features` lacks, or a tower that learns, is seen anew."""

    def rows(numbers: Sequence[int]) -> list[TrainingRow]:
        some = [samples[number] for number in numbers]
        unseen = [sample for sample in some if train_tower or sample.id not in features]
        pictures = [open_images(sample) for sample in unseen]
        with torch.set_grad_enabled(train_tower):
            seen = iter(subject.family.see([image for images in pictures for image in images]))
        fresh = {sample.id: tuple(next(seen) for _ in sample.images) for sample in unseen}
        return [TrainingRow(fresh[s.id] if s.id in fresh else features[s.id], s.turns) for s in some]

    return rows


def train_to_the_end(trainer: Trainer, inputs: StepInputs, reporter: Reporter, *, steps_before: int = 0, name: str = "") -> list[float]:
    """Train from the last checkpoint on to the end. Returns the losses of all steps, those before included.

    steps_before: of trainers that went before this one in the same step. name: of the training that it is a round of.
    """
    state, log = state_file(inputs, name, steps_before), inputs.checkpoint / records.TRAINING_LOG
    if state.exists():
        trainer.load(state)
    rows = [row for row in records.read_rows(log) if row["step"] <= steps_before + trainer.step]
    if trainer.step == trainer.total:  # it ended before the step died, so what the log has behind it is its successors'
        reporter.progress(steps_before + trainer.step, steps_before + trainer.total, "optimiser steps")
        return [row["loss"] for row in rows]
    with log.open("w", encoding="utf-8") as file:
        file.writelines(records.dump(row) for row in rows)
        reporter.progress(steps_before + trainer.step, steps_before + trainer.total, "optimiser steps")
        for done in trainer.run():
            leaving = reporter.leaving()
            rows.append({**asdict(done), "step": steps_before + done.step})
            file.write(records.dump(rows[-1]))
            reporter.metrics(loss=done.loss, learning_rate=done.learning_rate)
            reporter.progress(steps_before + done.step, steps_before + trainer.total, "optimiser steps")
            if leaving or done.step % inputs.parameters.finetune.checkpoint_every == 0 or done.step == trainer.total:
                file.flush()
                trainer.save(state)
                reporter.checkpoint()
    return [row["loss"] for row in rows]


def state_file(inputs: StepInputs, name: str, steps_before: int) -> Path:
    """Where a training of a step keeps its state; what names it as in `train_to_the_end`."""
    return inputs.checkpoint / f"{name}{steps_before}-{STATE}"


def write_adapter(adapter: PeftModel, folder: Path) -> None:
    """PEFT's layout, the same bytes for the same adapter, without the card that PEFT would have somebody fill in."""
    adapter.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    configuration = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    configuration["target_modules"] = sorted(configuration["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(configuration, indent=1, sort_keys=True) + "\n", encoding="utf-8")
