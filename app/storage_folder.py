"""The object store as a folder: the embedded profile's."""

# ruff: noqa: ARG002  (the protocol names arguments that only S3 needs)
from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from app.leftovers import remove_leftovers
from app.storage import CHUNK, Multipart, ObjectNotFound, Part, PartLink, PartMissing


class FolderStore:
    """Objects under `root/objects`, multipart uploads under `root/multipart`: one folder each, with its key and its parts.

    A new object is written aside, synced and renamed into place. What goes is renamed aside before it is deleted, so that a process
    killed in between leaves it whole or where it is found.
    """

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._multipart = root / "multipart"
        self._incoming = root / "incoming"
        for folder in (self._objects, self._multipart, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def put_file(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._write(key, iter(lambda: source.read(CHUNK), b""))

    def put_bytes(self, key: str, data: bytes) -> None:
        self._write(key, [data])

    def get_file(self, key: str, path: Path) -> None:
        source = self._existing(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        try:
            shutil.copyfile(source, partial)
            partial.replace(path)
        except FileNotFoundError as error:
            raise ObjectNotFound(key) from error
        finally:
            partial.unlink(missing_ok=True)

    def open_range(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        try:
            file = self._existing(key).open("rb")
        except FileNotFoundError as error:
            raise ObjectNotFound(key) from error

        def chunks() -> Iterator[bytes]:
            with file:
                file.seek(start)
                left = None if stop is None else stop - start
                while left is None or left > 0:
                    chunk = file.read(CHUNK if left is None else min(CHUNK, left))
                    if not chunk:
                        return
                    left = None if left is None else left - len(chunk)
                    yield chunk

        return chunks()

    def size(self, key: str) -> int:
        return self._existing(key).stat().st_size

    def delete(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self._objects:
                break
            try:
                folder.rmdir()
            except OSError:
                break  # not empty: something else lives there

    def keys(self, prefix: str) -> Iterator[str]:
        base = self._objects / PurePosixPath(prefix).parent if not prefix.endswith("/") else self._path(prefix.rstrip("/"))
        keys = (path.relative_to(self._objects).as_posix() for path in base.rglob("*") if path.is_file())
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def start_multipart(self, key: str, *, digests: bool = False) -> str:
        self._path(key)
        multipart_id = secrets.token_hex(16)
        making = self._incoming / multipart_id
        making.mkdir()
        (making / "key").write_text(key, encoding="utf-8")
        making.rename(self._multipart / multipart_id)
        return multipart_id

    def part_link(
        self, key: str, multipart_id: str, number: int, expires_seconds: int, *, bytes: int, sha256: str | None
    ) -> PartLink | None:
        return None

    def put_part(self, key: str, multipart_id: str, number: int, path: Path) -> Part:
        target = self._parts(multipart_id) / f"{number:05d}"
        try:
            path.replace(target)
        except FileNotFoundError as error:
            raise ObjectNotFound(multipart_id) from error
        except OSError:  # another file system
            partial = self._incoming / secrets.token_hex(8)
            shutil.copyfile(path, partial)
            partial.replace(target)
        return self._part(target)

    def list_parts(self, key: str, multipart_id: str) -> list[Part]:
        return [self._part(path) for path in sorted(self._parts(multipart_id).iterdir()) if path.name.isdigit()]

    def complete_multipart(self, key: str, multipart_id: str, parts: Iterable[Part]) -> None:
        folder = self._parts(multipart_id)

        def chunks() -> Iterator[bytes]:
            for part in parts:
                try:
                    with (folder / f"{part.number:05d}").open("rb") as source:
                        yield from iter(lambda: source.read(CHUNK), b"")
                except FileNotFoundError as error:
                    raise PartMissing(f"part {part.number} has not arrived") from error

        self._write(key, chunks())
        self._drop(folder)

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        self._drop(self._multipart / self._one_name(multipart_id))

    def open_multiparts(self) -> Iterator[Multipart]:
        for folder in self._multipart.iterdir():
            try:
                key, started = (folder / "key").read_text(encoding="utf-8"), (folder / "key").stat().st_mtime
            except FileNotFoundError:
                continue  # ended at this moment
            yield Multipart(key, folder.name, datetime.fromtimestamp(started, UTC))

    def drop_leftovers(self) -> int:
        return remove_leftovers(self._incoming)

    def signed_url(self, key: str, filename: str, media_type: str, expires_seconds: int) -> str | None:
        return None

    def scratch(self) -> Path:
        return self._incoming

    def probe(self) -> None:
        key = f"probes/{secrets.token_hex(8)}"
        self.put_bytes(key, b"probe")
        try:
            if b"".join(self.open_range(key)) != b"probe":
                raise OSError(f"the folder {self._objects} returned other bytes than were written")
        finally:
            self.delete(key)

    def _drop(self, folder: Path) -> None:
        doomed = self._incoming / secrets.token_hex(8)
        with suppress(FileNotFoundError):  # it is gone already
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _write(self, key: str, chunks: Iterable[bytes]) -> None:
        target = self._path(key)
        partial = self._incoming / secrets.token_hex(8)
        try:
            with partial.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            while True:
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    partial.replace(target)
                    break
                except FileNotFoundError:
                    continue  # a delete next door removed the folder it had emptied
            self._sync(target.parent)
        finally:
            partial.unlink(missing_ok=True)

    @staticmethod
    def _sync(folder: Path) -> None:
        # The rename itself must reach the disk, else a power cut loses an object that a committed row names.
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(parts) or any(part in (".", "..") or "\0" in part for part in parts):
            raise ValueError(f"not a storage key: {key!r}")
        return self._objects.joinpath(*parts)

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise ObjectNotFound(key)
        return path

    def _parts(self, multipart_id: str) -> Path:
        folder = self._multipart / self._one_name(multipart_id)
        if not folder.is_dir():
            raise ObjectNotFound(multipart_id)
        return folder

    @staticmethod
    def _one_name(multipart_id: str) -> str:
        if not multipart_id.isalnum():
            raise ValueError(f"not a multipart id: {multipart_id!r}")
        return multipart_id

    @staticmethod
    def _part(path: Path) -> Part:
        status = path.stat()
        return Part(int(path.name), status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}")
