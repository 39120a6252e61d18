"""Unpacking an uploaded zip: everything, or nothing and a reason."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from gpu_jobs.errors import InputError

_CHUNK = 1 << 20
_LOCAL_HEADER_BYTES = 30  # before each entry, at least
_DEVICE_NAMES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})
_IGNORED = "__MACOSX"  # resource forks that macOS adds to every zip


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may cost. Bytes are counted as they are written; what the archive says of itself is not believed."""

    entries: int = 500_000
    total_bytes: int = 200 * 2**30
    ratio: int = 200
    """Bytes written for each byte of the archive, entry by entry. Deflate cannot pass 1,032; weights and pictures stay near 1."""
    ratio_free_bytes: int = 2**20
    """An entry may always have this size, for short texts compress well."""


def extract(archive: Path, folder: Path, limits: ArchiveLimits = ArchiveLimits()) -> list[Path]:
    """Unpack a zip into `folder`, which must not exist or be empty, and return the files, sorted.

    A single folder that holds everything is stripped, as `my-model/config.json` is what zipping a folder gives.
    Written beside `folder` first and moved in one step, so that a refused archive leaves nothing behind.
    Archives inside the archive are files like any other and are not unpacked.

    Raises:
        InputError: it is no zip, is damaged, encrypted or too large, or an entry's name is not one to be trusted.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    _check_directory_size(archive, limits)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        unpacked = Path(temporary) / "files"
        unpacked.mkdir()
        try:
            with zipfile.ZipFile(archive) as opened:
                entries = _checked_entries(opened.infolist(), limits)
                _write_entries(opened, entries, unpacked, limits)
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
            raise InputError(f"the archive is damaged or no zip: {error}") from error
        os.replace(_strip_single_root(unpacked), folder)  # noqa: PTH105 (atomic, and an empty folder may be in its place)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _checked_entries(entries: list[zipfile.ZipInfo], limits: ArchiveLimits) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    if len(entries) > limits.entries:
        raise InputError(f"the archive has {len(entries):,} entries; at most {limits.entries:,} are taken")
    checked = [(entry, path) for entry in entries if (path := _checked_path(entry)).parts[0] != _IGNORED]
    if not checked:
        raise InputError("the archive is empty")
    _check_collisions(checked)
    _check_overlaps(entries)
    return [(entry, path) for entry, path in checked if not entry.is_dir()]


def _checked_path(entry: zipfile.ZipInfo) -> PurePosixPath:
    name = entry.orig_filename  # `filename` ends at the first NUL
    if not name or len(name.encode("utf-8", "surrogatepass")) > 4096:
        raise InputError("the archive has an entry without a name, or with one of more than 4,096 bytes")

    def refuse(why: str) -> InputError:
        return InputError(f"archive entry {name[:200]!r} {why}")

    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise refuse("has an absolute path")
    if "\\" in name or not name.isprintable():
        raise refuse("has a backslash or an unprintable character in its name")
    parts = name.rstrip("/").split("/")
    for part in parts:
        if part == "..":
            raise refuse("climbs out of its folder")
        if part in ("", "."):
            raise refuse("has an empty part in its path")
        if len(part.encode()) > 255:
            raise refuse("has a name longer than 255 bytes")
        if part.split(".")[0].rstrip(" ").lower() in _DEVICE_NAMES or ":" in part or part[-1] in ". ":
            raise refuse("has a name that some systems reserve or cannot store")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise refuse("is a symbolic link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise refuse("is a device, a pipe or a socket")
    if entry.flag_bits & 0x41:
        raise refuse("is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refuse("is compressed by another method than deflate")
    return PurePosixPath(*parts)


def _check_collisions(entries: list[tuple[zipfile.ZipInfo, PurePosixPath]]) -> None:
    """No two entries may be one file on any file system, and no file may also be a folder."""
    spelled: dict[str, str] = {}  # every path and every folder above it, as a file system blind to case sees them
    files: set[str] = set()
    folders: set[str] = set()
    for entry, path in entries:
        for depth in range(1, len(path.parts) + 1):
            spelling = "/".join(path.parts[:depth])
            folded = unicodedata.normalize("NFC", spelling).casefold()
            if spelled.setdefault(folded, spelling) != spelling:
                raise InputError(f"archive entry {str(path)!r} differs from {spelled[folded]!r} only in case or accents")
            if depth == len(path.parts) and not entry.is_dir():
                if folded in files:
                    raise InputError(f"archive entry {str(path)!r} is there twice")
                files.add(folded)
            else:
                folders.add(folded)
    if both := files & folders:
        raise InputError(f"archive entry {spelled[min(both)]!r} is both a file and a folder")


def _check_overlaps(entries: list[zipfile.ZipInfo]) -> None:
    """Entries that share their bytes are how a small archive gets enormous without a high ratio in any entry."""
    end, previous = 0, ""
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise InputError(f"archive entries {previous!r} and {entry.filename!r} overlap")
        end, previous = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size, entry.filename


def _write_entries(
    opened: zipfile.ZipFile, entries: list[tuple[zipfile.ZipInfo, PurePosixPath]], folder: Path, limits: ArchiveLimits
) -> None:
    room = limits.total_bytes
    for entry, path in entries:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        allowed = min(room, max(limits.ratio_free_bytes, entry.compress_size * limits.ratio))
        try:
            with opened.open(entry) as source, target.open("xb") as sink:
                room -= _copy(source, sink, allowed)
        except _TooLong:
            if allowed == room:
                raise InputError(f"the archive unpacks to more than {limits.total_bytes:,} bytes, at entry {str(path)!r}") from None
            raise InputError(f"archive entry {str(path)!r} expands more than {limits.ratio} times") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"archive entry {str(path)!r} is damaged: {error}") from error


class _TooLong(Exception):
    """More bytes than allowed."""


def _copy(source: IO[bytes], sink: IO[bytes], allowed: int) -> int:
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if written > allowed:
            raise _TooLong
        sink.write(chunk)
    return written


def _strip_single_root(folder: Path) -> Path:
    children = list(folder.iterdir())
    return children[0] if len(children) == 1 and children[0].is_dir() else folder


def _check_directory_size(archive: Path, limits: ArchiveLimits) -> None:
    """Refuse a table of contents too large to hold, before `zipfile` reads it whole into memory."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - 65_557 - 20))  # the longest end record, and the ZIP64 locator before it
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise InputError("the archive is no zip, or its end is missing")
    directory = struct.unpack_from("<I", tail, at + 12)[0]
    locator = at - 20
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        with archive.open("rb") as file:
            file.seek(min(size, struct.unpack_from("<Q", tail, locator + 8)[0]))
            record = file.read(56)
        if len(record) == 56 and record.startswith(b"PK\x06\x06"):
            directory = struct.unpack_from("<Q", record, 40)[0]
    if directory > limits.entries * 256:
        raise InputError(f"the archive's table of contents has {directory:,} bytes: too many entries; at most {limits.entries:,} are taken")
