"""Every container that rows may come in, and recognising the one a folder uses by its content."""

from __future__ import annotations

from pathlib import Path

from gpu_jobs.data.formats.container import HEAD_BYTES, Candidate, Container
from gpu_jobs.data.formats.json_lines import JsonLines
from gpu_jobs.data.formats.json_list import JsonList
from gpu_jobs.data.formats.parquet import Parquet
from gpu_jobs.data.formats.webdataset import WebDataset
from gpu_jobs.data.images import IMAGE_SUFFIXES
from gpu_jobs.errors import InputError

CONTAINERS: tuple[Container, ...] = (Parquet(), WebDataset(), JsonLines(), JsonList())
"""In the order in which they are tried."""

SUPPORTED_FORMATS = "LLaVA JSON or JSONL, ShareGPT, OpenAI messages JSONL, Parquet with images, WebDataset"


def find_rows(folder: Path) -> tuple[Container, list[Path]]:
    """The container a data set uses and its files of rows, sorted by path. Hidden files and links are passed over.

    Raises:
        InputError: there is no file of rows, or files of several kinds.
    """
    if not folder.is_dir():
        raise InputError("the data set is not a folder")
    found: dict[Container, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
        if hidden or path.is_symlink() or not path.is_file() or path.suffix.lower() in IMAGE_SUFFIXES:
            continue
        with path.open("rb") as opened:
            file = Candidate(path, opened.read(HEAD_BYTES))
        container = next((container for container in CONTAINERS if container.recognises(file)), None)
        if container is not None:
            found.setdefault(container, []).append(path)
    if not found:
        raise InputError(f"no file of rows was found; known formats are {SUPPORTED_FORMATS}")
    if len(found) > 1:
        examples = ", ".join(f"{paths[0].relative_to(folder).as_posix()} ({container.name})" for container, paths in found.items())
        raise InputError(f"the folder holds several data sets: {examples}; keep one of them")
    return found.popitem()
