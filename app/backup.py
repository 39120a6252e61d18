"""Copies of the object store, and whether the store has what the database names. The database itself is its own tools' to back up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.blobs.tables import BlobRow
from app.jobs.states import UNFINISHED_STEP
from app.jobs.tables import StepRow
from app.storage import ObjectNotFound, ObjectStore

T = TypeVar("T")

AT_A_TIME = 16
_NOT_KEPT = "probes/"


def export_objects(store: ObjectStore, folder: Path) -> int:
    """Copy every object that `folder` does not have yet. Returns how many. An interrupted copy goes on where it was.

    No key is ever used for other bytes, so what is there is right. Nothing is deleted there: a store that was emptied by mistake must
    not empty its backup.
    """

    def copy(key: str) -> bool:
        if (folder / key).exists():
            return False
        try:
            store.get_file(key, folder / key)
        except ObjectNotFound:
            return False  # deleted since it was listed
        return True

    folder.mkdir(parents=True, exist_ok=True)
    return _count(copy, (key for key in store.keys("") if not key.startswith(_NOT_KEPT)))


def import_objects(store: ObjectStore, folder: Path) -> int:
    """Put every file of `folder` that the store does not have, or not whole, back under its key. Returns how many."""

    def put(path: Path) -> bool:
        key = path.relative_to(folder).as_posix()
        if _size(store, key) == path.stat().st_size:
            return False
        store.put_file(key, path)
        return True

    return _count(put, (path for path in folder.rglob("*") if path.is_file()))


def missing_objects(session: Session, store: ObjectStore) -> list[str]:
    """Keys that the database names and under which the store has nothing, or another number of bytes. In order."""

    def is_missing(named: tuple[str, int]) -> bool:
        return _size(store, named[0]) != named[1]

    named = sorted(set(_named(session)))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return [key for (key, _), missing in zip(named, pool.map(is_missing, named), strict=True) if missing]


def _named(session: Session) -> Iterator[tuple[str, int]]:
    """Uploads and artifacts, what finished steps made for later ones, and what unfinished steps would resume from."""
    yield from ((key, size) for key, size in session.execute(select(BlobRow.key, BlobRow.bytes)))
    steps = select(StepRow.outputs, StepRow.checkpoint).where(or_(StepRow.status == "succeeded", StepRow.status.in_(UNFINISHED_STEP)))
    for manifests in session.execute(steps):
        for manifest in manifests:
            yield from ((file["key"], file["bytes"]) for file in (manifest or {}).get("files", []) if "key" in file)


def _size(store: ObjectStore, key: str) -> int | None:
    try:
        return store.size(key)
    except ObjectNotFound:
        return None


def _count(work: Callable[[T], bool], items: Iterable[T]) -> int:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return sum(pool.map(work, items))
