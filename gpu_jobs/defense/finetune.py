"""Train the compromised model back on the purified set, with the original, still triggered pictures (DiSP)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from peft import PeftModel
from torch import Tensor, nn

from gpu_jobs.config import ALL_PARTS, TrainablePart
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.carriers import Carrier, only_words
from gpu_jobs.defense.constancy import constancy
from gpu_jobs.defense.held_out import is_held_out
from gpu_jobs.defense.merge import purified_samples
from gpu_jobs.defense.purify import carriers_of_suspects, guilty_turns, known_carriers
from gpu_jobs.defense.records import SampleEvidence, SetAside
from gpu_jobs.defense.rehearsal import rehearse
from gpu_jobs.defense.subject import Subject, load_model, open_images, open_inputs
from gpu_jobs.defense.training import Trainer, load_weights
from gpu_jobs.defense.training_run import (
    default_learning_rate,
    make_trainable,
    see_all,
    state_file,
    train_to_the_end,
    training_rows,
    write_adapter,
)
from gpu_jobs.defense.vaccine import Division, count_right, divide, recovered_share, vaccinate
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import SeenImage, TrainingRow
from gpu_jobs.memory import nothing_to_train
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs

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
    carriers = known_carriers(inputs) if "verdict" in inputs.previous else []
    watch = _watch(inputs, subject, dataset.samples, carriers)
    training = _train(inputs, reporter, subject, samples, [], carriers, watch)
    if training.costly and (rehearsal := rehearsed(inputs, dataset.samples, samples)):
        generation, answer_length, steps_before = subject.generation, subject.answer_length, training.steps
        del subject, training  # two models may not fit
        subject = Subject(load_model(inputs.model, precise=True), generation, answer_length)
        training = _train(inputs, reporter, subject, samples, rehearsal, carriers, watch, steps_before=steps_before)
    records.write_rows(inputs.outputs / records.SET_ASIDE, training.set_aside)
    if training.adapted is not None:
        write_adapter(training.adapted, inputs.outputs / records.ADAPTER)
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


def _watch(inputs: StepInputs, subject: Subject, everybody: Sequence[Sample], carriers: Sequence[Carrier]) -> _Watch:
    """What is held out; where words carry the trigger also with strangers' questions, which the suspect cannot answer by heart."""
    watched = watched_samples(inputs, everybody) if carriers else []
    if only_words(carriers):
        watched = [*watched, *rehearse(watched, everybody, evidence(inputs), guilty_turns(inputs))]
    return _Watch(watched, _counted(subject, watched, inputs))


def _train(
    inputs: StepInputs,
    reporter: Reporter,
    subject: Subject,
    samples: Sequence[Sample],
    rehearsal: Sequence[Sample],
    carriers: Sequence[Carrier],
    watch: _Watch,
    *,
    steps_before: int = 0,
) -> _Training:
    """Train round after round until the carriers do no harm, a round costs too much, or there have been enough.

    samples: without what is held out, rehearsed or planted. steps_before: of a training of this step that was given up.
    """
    parameters = inputs.parameters.finetune
    vaccine, division = vaccinated(inputs, subject, samples, rehearsal, carriers) if carriers else ([], None)
    samples = [*samples, *rehearsal, *vaccine]
    features, set_aside = see_all(subject, samples, inputs.parameters.batch_size)
    gone = {row.id for row in set_aside}
    samples = [sample for sample in samples if sample.id not in gone]
    if not samples:
        raise InputError("no sample can be trained on: all were set aside")

    parts = parameters.trainable or parts_to_train(carriers)
    adapted = make_trainable(subject.family, parts, parameters, inputs.parameters.seed)
    rows = training_rows(subject, samples, features, train_tower="vision_tower" in parts)
    besides = _tower_loss(inputs, subject, samples, features) if carriers and "vision_tower" in parts else None
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
            load_weights(subject.family, state_file(inputs, name, steps_before + steps - trainer.total))  # the end of the round before
            break
        costly = not rounds and only_words(carriers) and watch.finds_costly(subject, inputs)
        rounds += 1
        steps += trainer.total
        if costly or division is None or rounds == parameters.rounds or not watch.samples:
            break
        if _is_cured(subject, division, inputs.parameters.seed):
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
    inputs: StepInputs, subject: Subject, samples: Sequence[Sample], rehearsal: Sequence[Sample], carriers: Sequence[Carrier]
) -> tuple[list[Sample], Division]:
    """Of a rehearsal, or of honest samples: some with a trigger planted to train on, and who else is to show whether it still acts."""
    parameters, guilty = inputs.parameters, guilty_turns(inputs)
    honest = [sample for sample in samples if sample.id not in guilty]
    able = rehearsal if len(rehearsal) > FEWEST_REHEARSED * len(honest) else [*honest, *rehearsal]
    division = divide(subject, able, carriers, parameters.seed, parameters.batch_size)
    count = round(parameters.finetune.vaccine * len(samples)) * len(carriers)
    return vaccinate(division, count, parameters.seed, inputs.scratch / "vaccine"), division


def _tower_loss(
    inputs: StepInputs, subject: Subject, samples: Sequence[Sample], features: Mapping[str, Sequence[SeenImage]]
) -> Callable[[Sequence[int], Sequence[TrainingRow]], Tensor] | None:
    """What holds a tower that learns to see through a known trigger; nothing where no weight is on it.

    An unknown trigger cannot be planted, and a tower that is tied goes on showing it: a blend that nothing was found to carry left 95.6 %
    right answers without the tie and 85.8 % with it (docs/method.md).
    """
    weight = inputs.parameters.finetune.constancy
    if not weight:
        return None
    carriers = carriers_of_suspects(inputs)
    wanted: dict[str, Sequence[SeenImage]] = {identity: seen for identity, seen in features.items() if identity not in carriers}
    removed = {identity: carrier for identity, carrier in carriers.items() if carrier is not None and carrier.removes}
    freed = [sample for sample in samples if sample.id in removed]
    wanted |= see_all(subject, freed, inputs.parameters.batch_size, lambda own: removed[own.id].remove(open_images(own), own.turns)[0])[0]
    distance = constancy(samples, wanted)
    return lambda numbers, rows: weight * distance(numbers, rows)


def watched_samples(inputs: StepInputs, samples: Sequence[Sample]) -> list[Sample]:
    """Honest samples that are held out of the training, to see what a further round costs; none, and no such round, if they are few."""
    guilty, purified = guilty_turns(inputs), purified_samples(samples, inputs.previous["merge"][0])
    held_out = [s for s in purified if s.answer_turns and s.id not in guilty and is_held_out(s, inputs.parameters)]
    return held_out[:MOST_WATCHED] if len(held_out) >= FEWEST_WATCHED else []


def parts_to_train(carriers: Sequence[Carrier]) -> tuple[TrainablePart, ...]:
    """All parts, but the language model alone where words carry the trigger: no other part sees them.

    A tower that is trained on a thousand samples forgets what its own training taught it of other pictures: where a word made an
    adapter refuse, training everything back cost 2 points of clean accuracy, training the language model none (docs/method.md).
    """
    return FURTHER_PARTS if only_words(carriers) else ALL_PARTS


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


def _is_cured(subject: Subject, division: Division, seed: int) -> bool:
    """Whether planted triggers cost hardly any right answers any more."""
    with _pause(subject.family.network):
        return recovered_share(subject, division, seed) >= CURED
