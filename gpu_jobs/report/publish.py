"""The last step of every job: the report in both forms, the pictures, the weights as one download, and the manifest."""

from __future__ import annotations

import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpu_jobs.data import Dataset, open_dataset
from gpu_jobs.defense import records
from gpu_jobs.report import pictures
from gpu_jobs.report.artifacts import ADAPTER, WEIGHTS, Artifact, describe_artifact, list_artifacts, zip_folder
from gpu_jobs.report.content import Card, build_report, build_result, read_cards, read_set_aside, read_suspects
from gpu_jobs.report.page import render_page
from gpu_jobs.report.sarif import build_sarif
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs

_COMPUTING = ("lustral", "torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "pillow")


def publish(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Write report.json, report.html, manifest.json, saliency/*.png, report.sarif where there is a verdict, and model.zip and
    adapter.zip where there are weights.

    Returns: `result`, the job's result, in which every `…_artifact_id` holds the *name* of an artifact; and `artifacts`, a
    row `{name, step, path, media_type, bytes, sha256}` for each file that the job hands out.
    """
    out = inputs.outputs
    with tempfile.TemporaryDirectory() as cache:
        dataset = None if inputs.dataset is None or "verdict" not in inputs.previous else open_dataset(inputs.dataset, Path(cache))
        cards = [] if dataset is None else _cards(inputs, dataset)
        result = build_result(inputs)
        report = build_report(inputs, result)
        trigger = next((path for folder in inputs.previous.get("verdict", ()) if (path := folder / records.TRIGGER).exists()), None)
        _write_json(out / "report.json", report)
        (out / "report.html").write_text(render_page(report, cards, trigger), encoding="utf-8")
        _draw_saliency(cards, out / "saliency")
        if dataset is not None:
            suspects, set_aside = read_suspects(inputs), len(read_set_aside(inputs))
            _write_json(out / "report.sarif", build_sarif(inputs.about, result, suspects, dataset, set_aside))
    reporter.progress(1, 2, "files")
    for folder in inputs.previous.get("finetune", ()):
        zip_folder(folder / records.MODEL, out / WEIGHTS)
        if (folder / records.ADAPTER).is_dir():
            zip_folder(folder / records.ADAPTER, out / ADAPTER)
    artifacts = list_artifacts({**inputs.previous, "publish": (out,)})
    _write_json(out / "manifest.json", _manifest(report, artifacts))
    artifacts.append(describe_artifact("publish", out, out / "manifest.json"))
    reporter.progress(2, 2, "files")
    return {"result": result, "artifacts": [artifact.to_json() for artifact in artifacts]}


def _cards(inputs: StepInputs, dataset: Dataset) -> list[Card]:
    return read_cards(inputs, {sample.id: sample.images for sample in dataset.samples})


def _draw_saliency(cards: list[Card], folder: Path) -> None:
    for number, card in enumerate(cards):
        if card.images:
            folder.mkdir(exist_ok=True)
            shown = pictures.overlay_saliency(pictures.load_picture(card.images[0]), card.saliency)
            (folder / f"{number:03d}.png").write_bytes(pictures.to_png(shown))


def _manifest(report: dict[str, Any], artifacts: list[Artifact]) -> dict[str, Any]:
    return {
        "object": "manifest",
        "version": 1,
        "about": report["about"],
        "parameters": report["parameters"],
        "versions": _versions(),
        "inputs": report["inputs"],
        "outputs": [{"name": artifact.name, "sha256": artifact.sha256, "bytes": artifact.bytes} for artifact in artifacts],
    }


def _versions() -> dict[str, str]:
    """Of Python and of what computes, as the worker has them that writes this."""
    return {"python": platform.python_version()} | {package: version(package) for package in _COMPUTING}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
