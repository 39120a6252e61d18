"""Files that this machine has fetched or made, found by their digest, so that no byte travels twice."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from app.leftovers import remove_leftovers
from app.storage import ObjectStore

CHUNK = 1024 * 1024


class ManifestFile(TypedDict):
    """One file of a model, a data set or a step's outputs: where it belongs in its folder, where it is stored, and what it must be."""

    path: str
    key: str
    sha256: str
    bytes: int


class CorruptObject(Exception):
    """The store returned other bytes than were put there. Trying again may help."""


class ContentCache:
    """Several processes share one folder: files appear by renaming, and only after their digest was checked.

    Staged files are hard links, so removing a file from the cache takes nothing from a running step. They share their
    bytes with the cache: whoever stages files treats them as read-only.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._files = folder / "files"
        self._unpacked = folder / "unpacked"
        self._incoming = folder / "incoming"
        self._limit = limit_bytes
        self._added = limit_bytes  # since the last look at the whole cache; the first file asks for one
        for each in (self._files, self._unpacked, self._incoming):
            each.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._incoming)

    def place(self, store: ObjectStore, file: ManifestFile, target: Path) -> None:
        """Put the file at `target`, fetching it if this machine does not have it.

        Raises:
            app.storage.ObjectNotFound: the store does not have it either.
            CorruptObject: what the store returned is not this file.
        """
        cached = self._path(file["sha256"])
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(3):
            if not cached.exists():
                self._fetch(store, file, cached)
            try:
                _link(cached, target)
            except FileNotFoundError:
                continue  # another process made room just now
            os.utime(cached)  # the order in which files are forgotten
            return
        raise CorruptObject(f"{file['key']} vanished from the cache three times: the cache folder is too small for this step")

    def place_unpacked(self, store: ObjectStore, file: ManifestFile, target: Path, unpack: Callable[[Path, Path], Any]) -> None:
        """Put what the archive holds into the folder `target`. `unpack(archive, folder)` makes the folder, or raises and leaves none."""
        ready = self._unpacked / file["sha256"]
        if not ready.exists():
            making = self._incoming / secrets.token_hex(8)
            archive = making / "archive.zip"
            try:
                self.place(store, file, archive)
                unpack(archive, making / "content")
                try:
                    (making / "content").rename(ready)
                except OSError:
                    if not ready.exists():
                        raise  # otherwise another process was faster
            finally:
                shutil.rmtree(making, ignore_errors=True)
            self._make_room(_size(ready))
        shutil.copytree(ready, target, copy_function=_link_for_copytree, dirs_exist_ok=True)
        os.utime(ready)

    def missing_bytes(self, files: Iterable[Mapping[str, Any]]) -> int:
        """Bytes of these files that are not here and would have to be fetched."""
        return sum(file["bytes"] for file in files if not self._path(file["sha256"]).exists())

    def room(self) -> int:
        """Bytes that could be fetched at the most: what the disk has free, and what would be forgotten for them."""
        free = shutil.disk_usage(self._files).free
        for path in (*self._files.glob("*/*"), *self._unpacked.iterdir()):
            with suppress(FileNotFoundError):  # another process made room just now
                free += _size(path)
        return free

    def keep(self, path: Path, sha256: str) -> None:
        """Remember a file made here, for the steps that come next. Nobody may write to it any more."""
        cached = self._path(sha256)
        if cached.exists():
            return
        cached.parent.mkdir(exist_ok=True)
        partial = self._incoming / secrets.token_hex(8)
        _link(path, partial)
        partial.replace(cached)
        self._make_room(path.stat().st_size)

    def _fetch(self, store: ObjectStore, file: ManifestFile, cached: Path) -> None:
        cached.parent.mkdir(exist_ok=True)
        partial = self._incoming / secrets.token_hex(8)
        try:
            store.get_file(file["key"], partial)
            if (found := digest_of(partial)) != file["sha256"]:
                raise CorruptObject(f"{file['key']} has the SHA-256 {found}; it was stored with {file['sha256']}")
            partial.replace(cached)
        finally:
            partial.unlink(missing_ok=True)
        self._make_room(file["bytes"], keep=cached)

    def _path(self, sha256: str) -> Path:
        return self._files / sha256[:2] / sha256

    def _make_room(self, added: int, keep: Path | None = None) -> None:
        """Forget what was not used for longest until the rest fits. Looks only now and then: a data set may be 100,000 files."""
        self._added += added
        if self._added < self._limit // 20:
            return
        self._added = 0
        remove_leftovers(self._incoming)
        entries = [
            (path, path.stat().st_mtime, _size(path)) for path in (*self._files.glob("*/*"), *self._unpacked.iterdir()) if path.exists()
        ]
        excess = sum(size for _, _, size in entries) - self._limit
        for path, _, size in sorted(entries, key=lambda entry: entry[1]):
            if excess <= 0:
                return
            if path == keep:
                continue
            excess -= size
            if path.is_dir():
                # Renamed first: a folder half removed must not look like one that is ready.
                doomed = self._incoming / secrets.token_hex(8)
                path.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or too many links
        shutil.copyfile(source, target)


def _link_for_copytree(source: str, target: str) -> str:
    _link(Path(source), Path(target))
    return target


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size
