"""What a job hands out: which files of which steps become artifacts, and under which names."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_jobs.config import StepKind
from gpu_jobs.defense import records

WEIGHTS = "model.zip"
ADAPTER = "adapter.zip"

_MEDIA_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".html": "text/html; charset=utf-8",
    ".sarif": "application/sarif+json",
    ".png": "image/png",
    ".zip": "application/zip",
}

# Files of the last finished step win where two steps write one name (set_aside.jsonl grows from step to step).
_PUBLISHED: dict[StepKind, tuple[str, ...]] = {
    "verdict": (records.SUSPECTS, records.TRIGGER, records.SET_ASIDE),
    "merge": (records.PURIFIED, records.CHANGES, records.FATES, records.SET_ASIDE, records.DATASET_ZIP),
    "finetune": (f"{records.MODEL}/**/*", f"{records.ADAPTER}/**/*", records.TRAINING_LOG),
    "evaluate": (records.EVALUATED, records.METRICS),
    "publish": ("*.zip", "saliency/*", "report.json", "report.html", "report.sarif"),
}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a job hands out. `step` and `path` say where it lies: a step's kind, and a path in that step's outputs."""

    name: str
    step: StepKind
    path: str
    media_type: str
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def list_artifacts(outputs: Mapping[StepKind, tuple[Path, ...]]) -> list[Artifact]:
    """The artifacts among the outputs of a job's steps, sorted by name, digests included."""
    found: dict[str, Artifact] = {}
    for step, patterns in _PUBLISHED.items():
        for folder in outputs.get(step, ()):
            for path in _matching(folder, patterns):
                artifact = describe_artifact(step, folder, path)
                found[artifact.name] = artifact
    return [found[name] for name in sorted(found)]


def describe_artifact(step: StepKind, folder: Path, path: Path) -> Artifact:
    """The artifact that `path`, in a step's outputs `folder`, becomes."""
    name = path.relative_to(folder).as_posix()
    media_type = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return Artifact(name, step, name, media_type, path.stat().st_size, sha256_of(path))


def zip_folder(folder: Path, archive: Path) -> None:
    """Store a folder in a zip without compression (weights do not compress) and without times, so equal folders give equal bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, target.open(entry, "w") as sink:
                while block := source.read(1 << 20):
                    sink.write(block)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _matching(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (path for path in sorted(folder.glob(pattern)) if path.is_file())
