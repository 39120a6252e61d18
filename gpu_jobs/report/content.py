"""The content of a report: everything that both of its forms show, gathered from the steps' results and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from gpu_jobs.config import StepKind
from gpu_jobs.defense import records
from gpu_jobs.report.artifacts import sha256_of
from gpu_jobs.steps import StepInputs

_LISTED = 1000  # rows of one list in report.json; the artifacts have all of them


@dataclass(frozen=True, slots=True)
class Card:
    """A suspect as the report shows it."""

    suspect: records.Suspect
    saliency: records.SaliencyPicture
    images: tuple[Path, ...]
    new_answer: str | None


def build_result(inputs: StepInputs) -> dict[str, Any]:
    """The job's `result`. Every `…_artifact_id` holds the artifact's *name*: whoever stores artifacts puts the id there."""
    verdict, merge, finetune, evaluate = (_result(inputs, kind) for kind in ("verdict", "merge", "finetune", "evaluate"))
    result: dict[str, Any] = {}
    if verdict:
        result |= {key: verdict[key] for key in ("verdict", "confidence", "target")}
        result["suspects"] = {**verdict["suspects"], "artifact_id": records.SUSPECTS}
    if merge:
        result["purified_dataset_artifact_id"] = records.DATASET_ZIP
        result["samples"] = merge
    if finetune:
        adapter = "adapter.zip" if finetune.get("adapter") else None
        result["purified_model"] = {"weights_artifact_id": "model.zip", "adapter_artifact_id": adapter, "changed": finetune["changed"]}
    if evaluate:
        result |= {key: evaluate[key] for key in ("before", "after", "estimated") if key in evaluate}
    return result


def build_report(inputs: StepInputs, result: dict[str, Any]) -> dict[str, Any]:
    """The report as JSON: the result, the evidence behind it, and what became of each part of the data."""
    verdict, finetune = _result(inputs, "verdict"), _result(inputs, "finetune")
    return {
        "object": "report",
        "version": 1,
        "about": dict(inputs.about),
        "result": result,
        "evidence": verdict.get("evidence", {}) if verdict else None,
        "suspects": _rows(inputs, "verdict", records.SUSPECTS),
        "changes": _rows(inputs, "merge", records.CHANGES),
        "set_aside": read_set_aside(inputs)[:_LISTED],
        "finetune": finetune,
        "training": read_training(inputs),
        "parameters": inputs.parameters.model_dump(mode="json"),
        "inputs": describe_inputs(inputs),
    }


def read_cards(inputs: StepInputs, images: Mapping[str, tuple[Path, ...]]) -> list[Card]:
    """The suspects that have a picture, with what their answer became. images: by sample id."""
    suspects = {suspect.id: suspect for suspect in read_suspects(inputs)}
    changes = {(row["id"], row["turn"]): row["new"] for row in _read(inputs, "merge", records.CHANGES)}
    cards = []
    for row in _read(inputs, "verdict", records.SALIENCY):
        saliency = records.SaliencyPicture.from_json(row)
        if saliency.id in suspects:
            cards.append(Card(suspects[saliency.id], saliency, images.get(saliency.id, ()), changes.get((saliency.id, saliency.turn))))
    return cards


def read_suspects(inputs: StepInputs) -> Iterator[records.Suspect]:
    """All suspects, the most suspicious first."""
    return (records.Suspect.from_json(row) for row in _read(inputs, "verdict", records.SUSPECTS))


def read_set_aside(inputs: StepInputs) -> list[dict[str, Any]]:
    """Every sample that was set aside, once, with the first reason given."""
    rows = chain.from_iterable(_read(inputs, kind, records.SET_ASIDE) for kind in ("scan", "verdict", "purify", "merge"))
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["id"], row)
    return list(first.values())


def read_training(inputs: StepInputs) -> list[dict[str, Any]]:
    return list(_read(inputs, "finetune", records.TRAINING_LOG))


def describe_inputs(inputs: StepInputs) -> list[dict[str, Any]]:
    """`{path, sha256, bytes}` of every file that was handed in; archives as what they were unpacked to."""
    folders = {
        "model": inputs.model,
        "dataset": inputs.dataset,
        "evaluation/triggered": inputs.evaluation.triggered,
        "evaluation/clean": inputs.evaluation.clean,
    }
    return [
        {"path": f"{name}/{path.relative_to(folder).as_posix()}", "sha256": sha256_of(path), "bytes": path.stat().st_size}
        for name, folder in folders.items()
        if folder is not None
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _result(inputs: StepInputs, kind: StepKind) -> dict[str, Any]:
    """What a step with one shard returned; empty where the job has no such step."""
    results = inputs.results.get(kind, ())
    return results[0] if results else {}


def _read(inputs: StepInputs, kind: StepKind, name: str) -> Iterator[dict[str, Any]]:
    for folder in inputs.previous.get(kind, ()):
        yield from records.read_rows(folder / name)


def _rows(inputs: StepInputs, kind: StepKind, name: str) -> list[dict[str, Any]]:
    return list(islice(_read(inputs, kind, name), _LISTED))
