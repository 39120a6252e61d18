"""The files of an uploaded model, whatever their names claim: digests, and everything that could run if someone opened it."""

from __future__ import annotations

import hashlib
import os
import pickletools
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gpu_jobs.data.quoting import presentable
from gpu_jobs.inspection.findings import Finding, error, warning

PICKLED_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".dill", ".mar"})
CODE_SUFFIXES = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".ps1", ".js", ".jar", ".ipynb", ".whl"})
EXPECTED_SUFFIXES = frozenset(
    {
        ".safetensors",
        ".json",
        ".jsonl",
        ".txt",
        ".md",
        ".model",
        ".jinja",
        ".yaml",
        ".yml",
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".svg",
        ".csv",
        ".sig",
    }
)
EXPECTED_NAMES = frozenset({"license", "notice", ".gitattributes", ".gitignore", "readme", "vocab", ".ds_store"})

_HEAD_BYTES = 512
_PICKLE = "holds a pickle"
_ARCHIVE = "is an archive, as torch.save writes them"
_PACKED = "is compressed, as joblib writes pickles"
_EXECUTABLE = "is an executable"
_CALLS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD", "EXT1", "EXT2", "EXT4"})
_MAGIC: tuple[tuple[bytes, str], ...] = (
    *((bytes([0x80, protocol]), _PICKLE) for protocol in range(2, 6)),
    (b"PK\x03\x04", _ARCHIVE),
    (b"PK\x05\x06", _ARCHIVE),
    (b"\x1f\x8b", _PACKED),
    (b"BZh", _PACKED),
    (b"\xfd7zXZ", _PACKED),
    (b"\x28\xb5\x2f\xfd", _PACKED),
    (b"\x04\x22\x4d\x18", _PACKED),
    *((bytes([0x78, level]), _PACKED) for level in (0x01, 0x5E, 0x9C, 0xDA)),
    (b"\x7fELF", _EXECUTABLE),
    (b"MZ", _EXECUTABLE),
    (b"#!", _EXECUTABLE),
    *((magic, _EXECUTABLE) for magic in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa\xcf")),
    (b"\x93NUMPY", "is a NumPy array, which may hold pickles"),
    (b"\x89HDF", "is an HDF5 file, which may hold code"),
)


class FileDigest(BaseModel):
    """A file of the upload by its path within it."""

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    sha256: str


def digest_files(folder: Path) -> list[FileDigest]:
    """The digest of every regular file, sorted by path. Links are not followed."""
    return [FileDigest(path=presentable(shown), bytes=path.stat().st_size, sha256=_sha256(path)) for shown, path in _files(folder)]


def examine_files(folder: Path) -> Iterator[Finding]:
    """Pickles, code, executables and links, found by name and by content; a warning for each file of no known use."""
    for shown, path in _entries(folder):
        if path.is_symlink() or not path.is_file():
            yield error("link", "links, devices and pipes are not taken; upload the file itself", shown)
            continue
        if not shown.isprintable():
            yield error("bad_name", "a file's name has unprintable characters", shown)
        suffix = path.suffix.lower()
        if suffix in PICKLED_SUFFIXES:
            yield error(
                "pickled_weights",
                "pickles run code when they are opened; convert the weights to safetensors and leave this file out",
                shown,
            )
        elif suffix in CODE_SUFFIXES:
            yield error("remote_code", "a model is data: code that comes with it is never run; leave this file out", shown)
        elif what := _hidden_danger(path):
            code = "executable" if what == _EXECUTABLE else "pickled_weights"
            yield error(code, f"the file {what}, whatever its name says; only safetensors and text are taken", shown)
        elif suffix not in EXPECTED_SUFFIXES and path.name.lower() not in EXPECTED_NAMES:
            yield warning("unexpected_file", "no supported model needs a file of this kind; it is ignored", shown)


def _hidden_danger(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    # The first eight bytes of safetensors are a length and may be anything; what follows them is checked elsewhere.
    if path.suffix.lower() == ".safetensors" and head[8:9] == b"{":
        return None
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if head[257:262] == b"ustar":
        return _ARCHIVE
    return _PICKLE if _is_calling_pickle(path) else None


def _is_calling_pickle(path: Path) -> bool:
    """Whether the file reads as a pickle to its end and calls something. Protocols 0 and 1 have no magic number.

    `genops` names the instructions and carries none of them out. Of a text, the first character already stops it.
    """
    calls = False
    with path.open("rb") as file:
        try:
            for instruction, _, _ in pickletools.genops(file):
                calls = calls or instruction.name in _CALLS
        except Exception:  # noqa: BLE001 (no pickle: the reader of instructions has many ways to say so)
            return False
    return calls


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything that is no folder, sorted; linked folders are entries themselves and are not entered."""
    found = []
    for root, folders, files in os.walk(folder):
        found += [Path(root) / name for name in files]
        found += [Path(root) / name for name in folders if (Path(root) / name).is_symlink()]
    return iter(sorted((path.relative_to(folder).as_posix(), path) for path in found))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    return ((shown, path) for shown, path in _entries(folder) if path.is_file() and not path.is_symlink())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
