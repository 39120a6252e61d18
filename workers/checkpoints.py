"""What a step has finished so far, saved so that another machine can go on from there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from app.jobs.leases import Lease, save_checkpoint
from app.storage import ObjectNotFound, ObjectStore
from workers.cache import ManifestFile, digest_of
from workers.context import Context
from workers.outputs import upload_folder

log = structlog.get_logger()

# Saving may take a tenth of the time, so the pause between two is nine times as long as saving took.
PAUSE_FACTOR = 9
SHORTEST_PAUSE = 1.0


class Checkpoints:
    """Saves one step's checkpoint folder under `prefix`; only the latest one is kept."""

    def __init__(self, context: Context, lease: Lease, folder: Path, prefix: str, saved: dict[str, Any] | None) -> None:
        self._context = context
        self._lease = lease
        self._folder = folder
        self._prefix = prefix
        self._saved: list[ManifestFile] = (saved or {}).get("files", [])
        self._number = 0
        self._next = 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._next

    @property
    def keys(self) -> set[str]:
        """Where the latest checkpoint is stored."""
        return {file["key"] for file in self._saved}

    def save(self, before_each: Callable[[], None] = lambda: None) -> None:
        """Store the folder's present content and name it in the step's row; then drop the one before.

        Raises:
            app.jobs.leases.LeaseLost: the step is no longer ours.
        """
        begun = time.monotonic()
        try:
            self._save(before_each)
        finally:  # also after a failure: a store that is away is not asked after each batch
            ended = time.monotonic()
            self._next = ended + max(SHORTEST_PAUSE, PAUSE_FACTOR * (ended - begun))

    def _save(self, before_each: Callable[[], None]) -> None:
        self._number += 1
        prefix = f"{self._prefix}/{self._lease.attempt}-{self._number}"
        files = upload_folder(self._context.store, self._folder, prefix, known=self._saved, before_each=before_each)
        with self._context.sessions.begin() as session:
            save_checkpoint(session, self._lease, {"files": files})
        dropped = {file["key"] for file in self._saved} - {file["key"] for file in files}
        self._saved = files
        delete_quietly(self._context.store, dropped)


def restore_checkpoint(store: ObjectStore, saved: dict[str, Any] | None, folder: Path) -> None:
    """Fill `folder` with the checkpoint of an earlier attempt; leave it empty if there is none, or none that can be trusted.

    The files are the step's own to write to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in (saved or {}).get("files", []):
        path = folder / file["path"]
        try:
            store.get_file(file["key"], path)
            damaged = digest_of(path) != file["sha256"]
        except ObjectNotFound:
            damaged = True
        if damaged:
            log.warning("checkpoint.damaged", key=file["key"])
            shutil.rmtree(folder)
            folder.mkdir()
            return


def delete_quietly(store: ObjectStore, keys: set[str]) -> int:
    """Delete what nothing names any more. Returns how many objects could not be deleted now: they are the sweeper's."""
    left = 0
    for key in keys:
        try:
            store.delete(key)
        except Exception as error:  # noqa: BLE001  (whatever the store raises)
            left += 1
            log.warning("object.not_deleted", key=key, error=f"{type(error).__name__}: {error}")
    return left
