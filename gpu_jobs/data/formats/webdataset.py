"""Rows in tar shards: `key.json` holds the row, `key.jpg`, `key.png`, `key.0.jpg` … its images, side by side in the archive."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from gpu_jobs.data.formats.container import MAX_ROW_BYTES, Candidate, Container, Edit, Row
from gpu_jobs.data.images import IMAGE_SUFFIXES
from gpu_jobs.data.json_text import dump_row, parse_json
from gpu_jobs.errors import InputError


@dataclass(slots=True)
class _Group:
    """The members of one key, in the order of the archive."""

    key: str
    members: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)
    problem: str = ""


class WebDataset(Container):
    name = "webdataset"

    def recognises(self, file: Candidate) -> bool:
        return file.head[257:262] == b"ustar"

    def read(self, path: Path, shown_as: str) -> Iterator[Row]:
        for index, group in enumerate(_groups(path, shown_as)):
            yield _read_row(group, f"{shown_as}#/{index}")

    def write(self, path: Path, shown_as: str, out: Path, edit: Edit) -> None:
        with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
            for index, group in enumerate(_groups(path, shown_as)):
                edited = edit(_read_row(group, f"{shown_as}#/{index}"))
                if edited is None:
                    continue
                for member, content in group.members:
                    new = dump_row(edited).encode() if _extension(member) == "json" else content
                    member.size = len(new)
                    archive.addfile(member, io.BytesIO(new))


def _groups(path: Path, shown_as: str) -> Iterator[_Group]:
    """Neighbours that share the path up to the first dot of the file name."""
    group: _Group | None = None
    with _opened(path, shown_as) as archive:
        for member in _members(archive):
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise InputError(f"{shown_as}: {member.name[:200]!r} is a link, a device or a sparse file; only plain files are taken")
            folder, _, name = member.name.rpartition("/")
            key = f"{folder}/{name.partition('.')[0]}".removeprefix("./").lstrip("/")
            if name.startswith("."):
                continue
            if group is not None and group.key != key:
                yield group
                group = None
            group = group or _Group(key)
            _add(group, member, archive)
    if group is not None:
        yield group


@contextmanager
def _opened(path: Path, shown_as: str) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise InputError(f"{shown_as} is not a sound tar archive: {error}") from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member, and then nothing but zeros: `tarfile` takes a damaged header in the middle for the end."""
    yield from archive
    file = archive.fileobj
    if file is None:
        raise tarfile.ReadError("the archive was closed")
    file.seek(archive.offset)
    while rest := file.read(2**20):
        if rest.count(0) != len(rest):
            raise tarfile.ReadError("damaged header, or data after the end of the archive")


def _add(group: _Group, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    if sum(len(content) for _, content in group.members) + member.size > MAX_ROW_BYTES:
        group.problem = f"the files of {group.key!r} have more than {MAX_ROW_BYTES:,} bytes"
        return
    opened = archive.extractfile(member)
    content = b"" if opened is None else opened.read()
    if len(content) < member.size:
        raise tarfile.ReadError(f"unexpected end of data in {member.name[:200]!r}")
    group.members.append((member, content))


def _read_row(group: _Group, pointer: str) -> Row:
    if group.problem:
        return Row(pointer, None, group.problem)
    if not group.key.isprintable():
        return Row(pointer, None, f"the key {group.key!r:.200} has unprintable characters")
    texts = [content for member, content in group.members if _extension(member) == "json"]
    if len(texts) != 1:
        return Row(
            pointer, None, f"{group.key!r} has {len(texts)} files {PurePosixPath(group.key).name}.json; one must say the conversation"
        )
    try:
        value = parse_json(texts[0])
    except ValueError as error:
        return Row(pointer, None, f"{group.key}.json is not valid JSON: {error}")
    if not isinstance(value, dict):
        return Row(pointer, None, f"{group.key}.json must hold a JSON object, not {type(value).__name__}")
    pictures = tuple(content for member, content in group.members if PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES)
    return Row(pointer, value, name=group.key, pictures=pictures)


def _extension(member: tarfile.TarInfo) -> str:
    """All that follows the first dot of the file name."""
    return PurePosixPath(member.name).name.partition(".")[2].lower()
