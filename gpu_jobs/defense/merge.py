"""Put the purified training set together out of what every shard answered."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_jobs.data import open_dataset
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.purify import guilty_turns, to_answer
from gpu_jobs.defense.records import Change, Conversation, Fate, NewAnswers, SetAside
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs


def merge(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Join the shards of the purification.

    Returns: `samples` in the input, `kept` with their answers, `reanswered`, `changed` among them, `set_aside`.

    Raises:
        InputError: nothing is left.
    """
    if inputs.dataset is None:
        raise InputError("this step needs a data set")
    dataset = open_dataset(inputs.dataset, inputs.scratch)
    folders = inputs.previous["purify"]
    new = {row["id"]: NewAnswers.from_json(row) for folder in folders for row in records.read_rows(folder / records.ANSWERS)}
    aside_folders = (*inputs.previous["verdict"], *folders)
    set_aside = [SetAside.from_json(row) for folder in aside_folders for row in records.read_rows(folder / records.SET_ASIDE)]
    gone = {row.id for row in set_aside}
    # There should be none of these; a possibly poisoned answer is not kept even then.
    lost = [s.id for s in to_answer(inputs, dataset.samples, guilty_turns(inputs)) if s.id not in new and s.id not in gone]
    set_aside += [SetAside(identity, "was never answered again") for identity in lost]
    gone |= {*lost}

    purified: list[Sample] = []
    changes: list[Change] = []
    for sample in dataset.samples:
        if sample.id in gone:
            continue
        answered = new.get(sample.id)
        if answered is not None:
            turns = zip(sample.answer_turns, sample.answers, answered.answers, answered.why, strict=True)
            changes += [Change(sample.id, turn, old, text, why) for turn, old, text, why in turns if text != old]
        purified.append(sample.with_answers(answered.answers) if answered else sample)
    if not purified:
        raise InputError("every sample was set aside: nothing is left to train on")

    changed = {change.id for change in changes}
    records.write_rows(inputs.outputs / records.PURIFIED, (_conversation(s, inputs.dataset, s.id in changed) for s in purified))
    records.write_rows(inputs.outputs / records.CHANGES, changes)
    records.write_rows(inputs.outputs / records.FATES, _fates(dataset.samples, new, changed, set_aside))
    records.write_rows(inputs.outputs / records.SET_ASIDE, set_aside)
    folder = inputs.scratch / "purified"
    dataset.write(purified, folder)
    _zip(folder, inputs.outputs / records.DATASET_ZIP)
    reporter.progress(len(purified), len(purified), "samples")
    return {
        "samples": len(dataset.samples),
        "kept": len(purified) - len(new),
        "reanswered": len(new),
        "changed": len(changed),
        "set_aside": len(set_aside),
    }


def _fates(samples: Sequence[Sample], new: Mapping[str, NewAnswers], changed: set[str], set_aside: Sequence[SetAside]) -> list[Fate]:
    """One for each sample of the input, in its order, then one for each row that could not be read."""
    aside = {row.id: row.reason for row in set_aside}
    fates = []
    for sample in samples:
        if sample.id in aside:
            fates.append(Fate(sample.id, "set_aside", aside.pop(sample.id)))
        elif sample.id in changed:
            fates.append(Fate(sample.id, "replaced", new[sample.id].why[0]))
        elif sample.id in new:
            fates.append(Fate(sample.id, "kept", f"the model gave the same answers again: {new[sample.id].why[0]}"))
        else:
            fates.append(Fate(sample.id, "kept", "shows no sign of poison"))
    return [*fates, *(Fate(identity, "set_aside", reason) for identity, reason in aside.items())]


def purified_samples(samples: Sequence[Sample], merged: Path) -> list[Sample]:
    """The samples of the input with their purified answers; those that were set aside are left out.

    merged: the folder of outputs of this step.
    """
    texts = {row["id"]: [turn["text"] for turn in row["turns"]] for row in records.read_rows(merged / records.PURIFIED)}
    return [s.with_answers([texts[s.id][turn] for turn in s.answer_turns]) for s in samples if s.id in texts]


def _conversation(sample: Sample, folder: Path, changed: bool) -> Conversation:
    root = folder.resolve()
    images = [str(path.relative_to(root)) if path.is_relative_to(root) else path.name for path in sample.images]
    return Conversation(sample.id, images, [{"role": turn.role, "text": turn.text} for turn in sample.turns], changed)


def _zip(folder: Path, path: Path) -> None:
    """The same content gives the same bytes: names are sorted and dates are fixed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                entry = zipfile.ZipInfo(file.relative_to(folder).as_posix())
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as target, file.open("rb") as source:
                    while block := source.read(1 << 20):
                        target.write(block)
