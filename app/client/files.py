"""Folders as uploads need them, and artifacts on their way back."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.client.errors import CorruptDownload
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
