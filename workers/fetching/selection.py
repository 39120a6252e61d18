"""Which files of a source are fetched: those that a family or a data format reads, and nothing that could run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from app.sources.paths import check_relative_path, find_clash
from gpu_jobs.data.images import IMAGE_SUFFIXES
from gpu_jobs.inspection.findings import Finding, listed, warning
from workers.fetching.origin import RemoteFile, SourceRefused

MODEL_SUFFIXES = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model"})
DATASET_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson", ".parquet", ".tar", ".zip"}) | IMAGE_SUFFIXES
MOST_FILES = 100_000


def choose_files(kind: str, files: Sequence[RemoteFile], max_bytes: int) -> tuple[list[RemoteFile], list[Finding]]:
    """The files to fetch, by path, and a remark on those that are left where they are. kind: of the inspection.

    Raises:
        SourceRefused: none is of use, they are too many or too large, or their names cannot lie in one folder.
    """
    suffixes = MODEL_SUFFIXES if kind == "inspect_model" else DATASET_SUFFIXES
    chosen = sorted((file for file in files if _is_wanted(file, suffixes, alone=len(files) == 1)), key=lambda file: file.path)
    taken = set(chosen)
    ignored = [file.path for file in files if file not in taken]
    if not chosen:
        detail = f"none of the {len(files):,} files there is of a kind that is read: {', '.join(sorted(suffixes))}"
        raise SourceRefused("empty", f"{detail}; there are {listed(ignored)}" if ignored else detail)
    if len(chosen) > MOST_FILES:
        raise SourceRefused("too_large", f"{len(chosen):,} files are more than the {MOST_FILES:,} that are taken; pack them into archives")
    if (total := sum(file.bytes for file in chosen)) > max_bytes:
        raise SourceRefused("too_large", f"the files have {total:,} bytes together; {max_bytes:,} is what you may bring here")
    _check_paths(chosen)
    remarks = []
    if ignored:
        remarks.append(warning("not_fetched", f"{len(ignored):,} files of other kinds were left where they are: {listed(ignored)}"))
    return chosen, remarks


def _is_wanted(file: RemoteFile, suffixes: frozenset[str], *, alone: bool) -> bool:
    path = PurePosixPath(file.path)
    hidden = any(part.startswith(".") and part not in (".", "..") for part in file.path.split("/"))
    # A model may come as one zip; a zip beside other files is no part of one.
    return not hidden and (path.suffix.lower() in suffixes or (alone and path.suffix.lower() == ".zip"))


def _check_paths(files: Sequence[RemoteFile]) -> None:
    for file in files:
        try:
            check_relative_path(file.path)
        except ValueError as fault:
            raise SourceRefused("bad_name", str(fault), file.path) from fault
    if (clash := find_clash([file.path for file in files])) is not None:
        raise SourceRefused("bad_name", clash[1], files[clash[0]].path)
