"""Folders as uploads need them, and artifacts on their way back."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from app.client.errors import ApiError, CorruptDownload
from app.client.retries import Retries
from app.client.transport import Transport


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
    """The folder as one zip, for data sets of many small pictures: one upload in place of thousands.

    Equal files make equal bytes, whenever they were written: a zip made again is known to the server.
    """
    with tempfile.TemporaryDirectory(prefix="lustral-zip-") as scratch:
        archive = Path(scratch) / f"{folder.resolve().name}.zip"
        # Stored, not deflated: pictures are compressed already.
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
            for path in files_in(folder):
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, target.open(entry, "w") as sink:
                    shutil.copyfileobj(source, sink)
        yield archive


def download(transport: Transport, artifact: dict[str, Any], target: Path) -> Path:
    """Write an artifact to `target`, which appears only once its SHA-256 is that which the server announced.

    Raises:
        CorruptDownload: it is not.
        ApiError: the server or its object store refused.
        httpx.TransportError: the connection was lost, and for the better part of a minute none brought another byte.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    try:
        with partial.open("wb") as file:
            sha256 = _fetch(transport, f"/v1/artifacts/{artifact['id']}/content", file)
        if sha256 != artifact["sha256"]:
            raise CorruptDownload(f"{target} has the SHA-256 {sha256}; the server announced {artifact['sha256']}")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _fetch(transport: Transport, path: str, file: BinaryIO) -> str:
    """Write a body to `file` over as many connections as it takes, each from the byte that was reached. Returns its SHA-256."""
    digest, reached, etag = hashlib.sha256(), 0, None
    retries = Retries()
    while True:
        began = reached
        headers = {"Accept-Encoding": "identity"}  # a range is of the bytes as they are stored, not as something on the way packs them
        if reached:
            headers |= {"Range": f"bytes={reached}-"} | ({"If-Range": etag} if etag else {})
        try:
            with transport.stream(path, headers) as response:
                if response.status_code != HTTPStatus.PARTIAL_CONTENT:  # the first time, or the content was changed meanwhile
                    digest, reached = hashlib.sha256(), 0
                    file.seek(0)
                    file.truncate()
                etag = response.headers.get("etag")
                for chunk in response.iter_bytes():
                    digest.update(chunk)
                    reached += file.write(chunk)
            return digest.hexdigest()
        except (ApiError, httpx.TransportError) as error:
            if isinstance(error, ApiError) and error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and reached:
                return digest.hexdigest()  # the connection was lost behind the last byte
            if reached > began:
                retries = Retries()
            if not retries.wait_after(error):
                raise


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
