"""Folders to the object store and back, with a manifest that says what must be there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from app.storage import ObjectStore
from workers.cache import ContentCache, ManifestFile, digest_of
from workers.outages import ride_out

PARALLEL = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def upload_folder(
    store: ObjectStore,
    folder: Path,
    prefix: str,
    *,
    known: Iterable[ManifestFile] = (),
    cache: ContentCache | None = None,
    before_each: Callable[[], None] = lambda: None,
    patience: float = 0.0,
) -> list[ManifestFile]:
    """Store every file of `folder` under `prefix` and return the manifest, sorted by path.

    known: files that are stored already; one with the same digest is named and not sent again.
    cache: remembers the files, for steps that run on this machine next.
    before_each: may raise to stop between two files.
    patience: seconds to wait for a store that is away.
    """
    stored = {file["sha256"]: file["key"] for file in known}

    def upload(path: Path) -> ManifestFile:
        before_each()
        name = path.relative_to(folder).as_posix()
        sha256 = digest_of(path)
        key = stored.get(sha256)
        if key is None:
            key = f"{prefix}/{name}"
            target = key
            ride_out(lambda: store.put_file(target, path), check=before_each, patience=patience)
        if cache is not None:
            cache.keep(path, sha256)
        return ManifestFile(path=name, key=key, sha256=sha256, bytes=path.stat().st_size)

    return in_parallel(upload, sorted(path for path in folder.rglob("*") if path.is_file()))


def place_files(store: ObjectStore, cache: ContentCache, files: Sequence[ManifestFile], folder: Path) -> None:
    """Lay the files of a manifest out in `folder`, which is made. They share their bytes with the cache: read-only."""
    folder.mkdir(parents=True, exist_ok=True)
    in_parallel(lambda file: cache.place(store, file, folder / file["path"]), files)


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """What `work` makes of each item, in their order."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(work, items))
