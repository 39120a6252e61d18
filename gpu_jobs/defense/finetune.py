"""Train the compromised model back on the purified set, with the original, still triggered pictures (DiSP)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from torch import Tensor, nn

from gpu_jobs.config import ALL_PARTS, FinetuneParameters, TrainablePart
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.carriers import Carrier, Words
from gpu_jobs.defense.constancy import constancy
from gpu_jobs.defense.held_out import is_held_out
from gpu_jobs.defense.merge import purified_samples
from gpu_jobs.defense.purify import guilty_turns, known_carrier
from gpu_jobs.defense.records import SampleEvidence, SetAside
from gpu_jobs.defense.rehearsal import rehearse
from gpu_jobs.defense.subject import Subject, load_model, open_images, open_inputs
from gpu_jobs.defense.training import Trainer, generator, load_weights
from gpu_jobs.defense.vaccine import count_right, divide, recovered_share, vaccinate
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Family, SeenImage, TrainingRow
from gpu_jobs.memory import nothing_to_train
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs

STATE = "state.pt"
# A round's order and noise are another seed's.
ANOTHER_SEED = 1_000_003
# The share of right answers that a planted trigger must leave for the training to end.
CURED = 0.95
# Honest samples that no round is trained on, at most and at least, and the share of them that a further round may cost.
MOST_WATCHED, FEWEST_WATCHED, MOST_LOST = 256, 20, 0.01
# The share of the honest samples that a rehearsal must have for the trigger to be planted on it alone.
FEWEST_REHEARSED = 0.25
# What learns in a further round, where the caller named no parts: the tower and the projector have learned what they can.
FURTHER_PARTS: tuple[TrainablePart, ...] = ("language_model",)
# Tower features that are kept in memory; of samples beyond, the tower sees the pictures again in every epoch.
FEATURE_BYTES = 8 * 2**30


def finetune(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Fine-tune, or publish the weights as they are where the defence changed no sample.

    Trains on the merged set of the steps before, else on the data set itself. Checkpoints every `checkpoint_every`
    optimiser steps; a resumed run ends in the same weights.
    Returns: `changed`, whether there is an `adapter`, `samples` trained on, how many of them are `rehearsal` and `vaccine`, how many were
        `set_aside`, `optimiser_steps` and `rounds` that the weights come from, and `loss`, the mean of the last epoch (None if nothing
        was trained).

    Raises:
        InputError: no sample can be trained on.
    """
    if inputs.model is None:
        raise InputError("this step needs a model")
    if nothing_to_train(inputs.results):
        shutil.copytree(inputs.model, inputs.outputs / records.MODEL)
        (inputs.outputs / records.TRAINING_LOG).touch()
        return {
            "changed": False,
            "adapter": False,
            "samples": 0,
            "rehearsal": 0,
            "vaccine": 0,
            "set_aside": 0,
            "optimiser_steps": 0,
            "rounds": 0,
            "loss": None,
        }

    dataset, subject = open_inputs(inputs, precise=True)
    samples = training_samples(inputs, dataset.samples)
    carrier = known_carrier(inputs) if "verdict" in inputs.previous else None
    watch = _watch(inputs, subject, dataset.samples, carrier)
    training = _train(inputs, reporter, subject, samples, [], carrier, watch)
    if training.costly and (rehearsal := rehearsed(inputs, dataset.samples, samples)):
        generation, answer_length, steps_before = subject.generation, subject.answer_length, training.steps
        del subject, training  # two models may not fit
        subject = Subject(load_model(inputs.model, precise=True), generation, answer_length)
        training = _train(inputs, reporter, subject, samples, rehearsal, carrier, watch, steps_before=steps_before)
    records.write_rows(inputs.outputs / records.SET_ASIDE, training.set_aside)
    if training.adapted is not None:
        _write_adapter(training.adapted, inputs.outputs / records.ADAPTER)
        training.adapted.merge_and_unload()
    subject.family.save(inputs.outputs / records.MODEL)
    shutil.copy(inputs.checkpoint / records.TRAINING_LOG, inputs.outputs)
    return {
        "changed": True,
        "adapter": training.adapted is not None,
        "samples": training.samples,
        "rehearsal": training.rehearsal,
        "vaccine": training.vaccine,
        "set_aside": len(training.set_aside),
        "optimiser_steps": training.steps,
        "rounds": training.rounds,
        "loss": training.loss,
    }


@dataclass(frozen=True, slots=True)
class _Watch:
    """Honest samples that no round is trained on, and how many of them the suspect answers as given."""

    samples: Sequence[Sample]
    known: int

    def finds_costly(self, subject: Subject, inputs: StepInputs) -> bool:
        """Whether the training has cost more of them than it may."""
        return _counted(subject, self.samples, inputs) < self.known - MOST_LOST * len(self.samples)


@dataclass(frozen=True, slots=True)
class _Training:
    """What a training came to. costly: its first round, behind words alone, cost more than a round may. loss: mean of the last epoch."""

    adapted: PeftModel | None
    samples: int
    rehearsal: int
    vaccine: int
    set_aside: list[SetAside]
    steps: int
    rounds: int
    costly: bool
    loss: float


def _watch(inputs: StepInputs, subject: Subject, everybody: Sequence[Sample], carrier: Carrier | None) -> _Watch:
    """What is held out; where words carry the trigger also with strangers' questions, which the suspect cannot answer by heart."""
    watched = watched_samples(inputs, everybody) if carrier is not None else []
    if isinstance(carrier, Words):
        watched = [*watched, *rehearse(watched, everybody, evidence(inputs), guilty_turns(inputs))]
    return _Watch(watched, _counted(subject, watched, inputs))


def _train(
    inputs: StepInputs,
    reporter: Reporter,
    subject: Subject,
    samples: Sequence[Sample],
    rehearsal: Sequence[Sample],
    carrier: Carrier | None,
    watch: _Watch,
    *,
    steps_before: int = 0,
) -> _Training:
    """Train round after round until the carrier does no harm, a round costs too much, or there have been enough.

    samples: without what is held out, rehearsed or planted. steps_before: of a training of this step that was given up.
    """
    parameters = inputs.parameters.finetune
    vaccine, checked = vaccinated(inputs, subject, samples, rehearsal, carrier) if carrier is not None else ([], [])
    samples = [*samples, *rehearsal, *vaccine]
    features, set_aside = see_all(subject, samples, inputs.parameters.batch_size)
    gone = {row.id for row in set_aside}
    samples = [sample for sample in samples if sample.id not in gone]
    if not samples:
        raise InputError("no sample can be trained on: all were set aside")

    parts = parameters.trainable or parts_to_train(carrier)
    adapted = make_trainable(subject.family, parts, parameters, inputs.parameters.seed)
    rows = training_rows(subject, samples, features, train_tower="vision_tower" in parts)
    besides = _tower_loss(inputs, subject, samples, features, carrier) if carrier is not None and "vision_tower" in parts else None
    rate = parameters.learning_rate or default_learning_rate(subject.family)
    name = "rehearsed-" if rehearsal else ""  # whoever resumes on another device may decide otherwise on whether to rehearse
    steps, losses, rounds, costly = 0, [], 0, False
    while True:
        if rounds and parameters.trainable is None and parts != FURTHER_PARTS:
            parts, besides = FURTHER_PARTS, None
            with _pause(subject.family.network):
                features, _ = see_all(subject, samples, inputs.parameters.batch_size)
            make_trainable(subject.family, parts, parameters, inputs.parameters.seed)
            rows = training_rows(subject, samples, features, train_tower=False)
        trainer = Trainer(
            subject.family,
            len(samples),
            rows,
            parameters,
            learning_rate=rate * 2**rounds,
            answer_length=subject.answer_length,
            seed=inputs.parameters.seed + rounds * ANOTHER_SEED,
            besides=besides,
        )
        losses = train_to_the_end(trainer, inputs, reporter, steps_before=steps_before + steps, name=name)
        if rounds and watch.finds_costly(subject, inputs):
            load_weights(subject.family, _state(inputs, name, steps_before + steps - trainer.total))  # the end of the round before
            break
        costly = not rounds and isinstance(carrier, Words) and watch.finds_costly(subject, inputs)
        rounds += 1
        steps += trainer.total
        if costly or carrier is None or rounds == parameters.rounds or not watch.samples:
            break
        if _is_cured(subject, checked, carrier, inputs.parameters.seed):
            break
    last = losses[-trainer.steps_per_epoch :]
    return _Training(adapted, len(samples), len(rehearsal), len(vaccine), set_aside, steps, rounds, costly, sum(last) / len(last))


def training_samples(inputs: StepInputs, samples: Sequence[Sample]) -> list[Sample]:
    """What is trained on: the purified samples, but for a share that is held out."""
    if "merge" not in inputs.previous:
        return [sample for sample in samples if sample.answer_turns]
    purified = [sample for sample in purified_samples(samples, inputs.previous["merge"][0]) if sample.answer_turns]
    return [sample for sample in purified if not is_held_out(sample, inputs.parameters)]


def evidence(inputs: StepInputs) -> Iterator[SampleEvidence]:
    """What the scan saw of every sample; nothing in a run that has none."""
    rows = chain.from_iterable(records.read_rows(folder / records.EVIDENCE) for folder in inputs.previous.get("scan", ()))
    return map(SampleEvidence.from_json, rows)


def rehearsed(inputs: StepInputs, everybody: Sequence[Sample], samples: Sequence[Sample]) -> list[Sample]:
    """What holds in place what the suspect knows beyond its training set, as much as was asked for."""
    found = rehearse(samples, everybody, evidence(inputs), guilty_turns(inputs))
    return found[: round(inputs.parameters.finetune.rehearsal * len(samples))]


def vaccinated(
    inputs: StepInputs, subject: Subject, samples: Sequence[Sample], rehearsal: Sequence[Sample], carrier: Carrier
) -> tuple[list[Sample], list[Sample]]:
    """Of a rehearsal, or of honest samples: some with the trigger planted to train on, and others to see with whether it still acts."""
    parameters, guilty = inputs.parameters, guilty_turns(inputs)
    honest = [sample for sample in samples if sample.id not in guilty]
    able = rehearsal if len(rehearsal) > FEWEST_REHEARSED * len(honest) else [*honest, *rehearsal]
    division = divide(subject, able, carrier, parameters.seed, parameters.batch_size)
    count = round(parameters.finetune.vaccine * len(samples))
    return vaccinate(division.planted, carrier, count, parameters.seed, inputs.scratch / "vaccine"), division.checked


def _tower_loss(
    inputs: StepInputs, subject: Subject, samples: Sequence[Sample], features: Mapping[str, Sequence[SeenImage]], carrier: Carrier
) -> Callable[[Sequence[int], Sequence[TrainingRow]], Tensor] | None:
    """What holds a tower that learns to see through a known trigger; nothing where no weight is on it.

    An unknown trigger cannot be planted, and a tower that is tied goes on showing it: a blend that nothing was found to carry left 95.6 %
    right answers without the tie and 85.8 % with it (docs/method.md).
    """
    weight = inputs.parameters.finetune.constancy
    if not weight:
        return None
    guilty = guilty_turns(inputs)
    wanted: dict[str, Sequence[SeenImage]] = {identity: seen for identity, seen in features.items() if identity not in guilty}
    if carrier.removes:
        suspects = [sample for sample in samples if sample.id in guilty]
        wanted |= see_all(subject, suspects, inputs.parameters.batch_size, lambda own: carrier.remove(open_images(own), own.turns)[0])[0]
    distance = constancy(samples, wanted)
    return lambda numbers, rows: weight * distance(numbers, rows)


def watched_samples(inputs: StepInputs, samples: Sequence[Sample]) -> list[Sample]:
    """Honest samples that are held out of the training, to see what a further round costs; none, and no such round, if they are few."""
    guilty, purified = guilty_turns(inputs), purified_samples(samples, inputs.previous["merge"][0])
    held_out = [s for s in purified if s.answer_turns and s.id not in guilty and is_held_out(s, inputs.parameters)]
    return held_out[:MOST_WATCHED] if len(held_out) >= FEWEST_WATCHED else []


def default_learning_rate(family: Family) -> float:
    """0.025 / hidden size: 6e-6 at 4096 (LLaDA-V's official fine-tune: 1e-5), and 2e-4 at the bundled model's 128."""
    return 0.025 / family.hidden_embedding.shape[0]


def parts_to_train(carrier: Carrier | None) -> tuple[TrainablePart, ...]:
    """All parts, but the language model alone where words carry the trigger: no other part sees them.

    A tower that is trained on a thousand samples forgets what its own training taught it of other pictures: where a word made an
    adapter refuse, training everything back cost 2 points of clean accuracy, training the language model none (docs/method.md).
    """
    return FURTHER_PARTS if isinstance(carrier, Words) else ALL_PARTS


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


def train_to_the_end(trainer: Trainer, inputs: StepInputs, reporter: Reporter, *, steps_before: int = 0, name: str = "") -> list[float]:
    """Train from the last checkpoint on to the end. Returns the losses of all steps, those before included.

    steps_before: of trainers that went before this one in the same step. name: of the training that it is a round of.
    """
    state, log = _state(inputs, name, steps_before), inputs.checkpoint / records.TRAINING_LOG
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


def _state(inputs: StepInputs, name: str, steps_before: int) -> Path:
    return inputs.checkpoint / f"{name}{steps_before}-{STATE}"


@contextmanager
def _pause(network: nn.Module) -> Iterator[None]:
    """Between two rounds the network is asked, not trained."""
    network.eval()
    try:
        yield
    finally:
        network.train()


def _counted(subject: Subject, watched: Sequence[Sample], inputs: StepInputs) -> int:
    with _pause(subject.family.network):
        return count_right(subject, watched, inputs.parameters.batch_size)


def _is_cured(subject: Subject, checked: Sequence[Sample], carrier: Carrier, seed: int) -> bool:
    """Whether the planted trigger costs hardly any right answers any more."""
    with _pause(subject.family.network):
        return recovered_share(subject, checked, carrier, seed) >= CURED


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


def _write_adapter(adapter: PeftModel, folder: Path) -> None:
    """PEFT's layout, the same bytes for the same adapter, without the card that PEFT would have somebody fill in."""
    adapter.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    configuration = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    configuration["target_modules"] = sorted(configuration["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(configuration, indent=1, sort_keys=True) + "\n", encoding="utf-8")
