"""Local files on their way to a server and back."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from app.client.errors import ApiError, CorruptDownload
from app.client.transport import Transport

PARALLEL_PARTS = 4
Advance = Callable[[int], object]
"""Told the number of bytes that were just sent."""


def upload_file(transport: Transport, path: Path, advance: Advance) -> str:
    """Send one file in parts, several at a time, and return the id of the completed upload."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    upload = transport.call("POST", "/v1/uploads", {"filename": path.name, "bytes": size, "sha256": sha256})

    def send(part: dict[str, Any]) -> None:
        with path.open("rb") as file:
            file.seek((part["number"] - 1) * upload["part_size"])
            content = file.read(upload["part_size"])
        transport.put(part["url"], content, part["headers"])
        advance(len(content))

    try:
        with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
            list(pool.map(send, upload["parts"]))
        transport.call("POST", f"/v1/uploads/{upload['id']}/complete")
    except BaseException:
        with suppress(ApiError, httpx.TransportError):  # it expires by itself
            transport.call("DELETE", f"/v1/uploads/{upload['id']}")
        raise
    upload_id: str = upload["id"]
    return upload_id


def upload_folder(transport: Transport, folder: Path, advance: Advance) -> list[dict[str, str]]:
    """Send every file of a folder; the `files` of an upload source."""
    return [
        {"path": path.relative_to(folder).as_posix(), "upload_id": upload_id}
        for path in files_in(folder)
        for upload_id in (upload_file(transport, path, advance),)
    ]


def files_in(folder: Path) -> list[Path]:
    """All files of a folder but hidden ones, in a fixed order.

    Raises:
        FileNotFoundError: there is none, or no such folder.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder)))
    if not files:
        raise FileNotFoundError(f"{folder} holds no files")
    return files


@contextmanager
def zipped(folder: Path) -> Iterator[Path]:
    """The folder as one zip, for data sets of many small pictures: one upload in place of thousands."""
    with tempfile.TemporaryDirectory(prefix="lustral-zip-") as scratch:
        archive = Path(scratch) / f"{folder.resolve().name}.zip"
        # Stored, not deflated: pictures are compressed already.
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
            for path in files_in(folder):
                target.write(path, path.relative_to(folder).as_posix())
        yield archive


def download(transport: Transport, artifact: dict[str, Any], target: Path) -> Path:
    """Write an artifact to `target`, which appears only once its size and SHA-256 are those that the server announced.

    Raises:
        CorruptDownload: they are not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file, transport.stream(f"/v1/artifacts/{artifact['id']}/content") as response:
            for chunk in response.iter_bytes():
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != artifact["sha256"]:
            raise CorruptDownload(f"{target} has the SHA-256 {digest.hexdigest()}; the server announced {artifact['sha256']}")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
