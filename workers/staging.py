"""From manifests to the local folders that a function of `gpu_jobs` works on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from app.storage import ObjectStore
from gpu_jobs.data.archive import extract
from gpu_jobs.steps import EvaluationSets, StepInputs
from workers.cache import ContentCache, ManifestFile
from workers.checkpoints import restore_checkpoint
from workers.context import Context
from workers.outputs import place_files
from workers.work import Files, Work


def stage_step(context: Context, work: Work, folder: Path, *, check: Callable[[], None]) -> StepInputs:
    """Lay out all that the step reads under `folder`. `check` may raise to stop between two inputs.

    Raises:
        gpu_jobs.errors.InputError: an archive is not one to be unpacked.
        app.storage.ObjectNotFound, workers.cache.CorruptObject: stored bytes are missing or damaged.
    """

    digests: dict[Path, str] = {}

    def stage(name: str, files: Files | None) -> Path | None:
        check()
        if files is None:
            return None
        digests[folder / name] = _digest_of(files)
        return stage_files(context.store, context.cache, files, folder / name)

    previous, results = {}, {}
    for kind, shards in work.previous_by_kind().items():
        results[kind] = tuple(step.result for step in shards)
        previous[kind] = tuple(folder / "previous" / kind / str(step.shard) for step in shards)
        for step, target in zip(shards, previous[kind], strict=True):
            check()
            place_files(context.store, context.cache, step.files, target)
            digests[target] = _digest_of(step.files)
    outputs, checkpoint = folder / "outputs", folder / "checkpoint"
    outputs.mkdir()
    restore_checkpoint(context.store, work.checkpoint, checkpoint)
    return StepInputs(
        parameters=work.parameters,
        outputs=outputs,
        checkpoint=checkpoint,
        model=stage("model", work.model),
        dataset=stage("dataset", work.dataset),
        evaluation=EvaluationSets(stage("triggered", work.triggered), stage("clean", work.clean), work.target),
        shard=work.shard,
        shards=work.shards,
        previous=previous,
        results=results,
        about={**work.about, "signing_key": context.runtime.signing_key.public.fingerprint},
        digests=digests,
    )


def stage_files(store: ObjectStore, cache: ContentCache, files: Files, folder: Path) -> Path:
    """Lay out the files of a model or data set: plain ones where their path says, archives unpacked into the folder itself."""
    folder.mkdir(parents=True, exist_ok=True)
    place_files(store, cache, [_manifest_file(file) for file in files if not file.get("archive")], folder)
    for file in files:
        if file.get("archive"):
            cache.place_unpacked(store, _manifest_file(file), folder, extract)
    return folder


def _digest_of(files: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of a manifest: of paths and digests, in hexadecimal."""
    listed = json.dumps(sorted((file["path"], file["sha256"]) for file in files))
    return hashlib.sha256(listed.encode()).hexdigest()


def _manifest_file(file: dict[str, Any]) -> ManifestFile:
    return cast(ManifestFile, {name: file[name] for name in ManifestFile.__annotations__})
