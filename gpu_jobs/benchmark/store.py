"""A cache on disk of what is dear to make. An entry is there whole or not at all, and two processes never make the same one."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

KEY = "key.json"
GPU_JOBS = Path(__file__).parents[1]


class Store:
    """Folders of entries below `root`, one for each kind."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entry(self, kind: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """The folder of the entry; `make` fills it if it is not there yet.

        key: all that the entry's content follows from, as JSON takes it. It is kept in the entry, for people to read.
        """
        folder = self.root / kind / digest(key)
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                # What a process that was killed left behind; ours alone, as we hold the lock.
                for abandoned in folder.parent.glob(f"{folder.name}.part-*"):
                    shutil.rmtree(abandoned)
                unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
                try:
                    make(unfinished)
                    write_json(unfinished / KEY, key)
                    unfinished.rename(folder)
                except BaseException:
                    shutil.rmtree(unfinished, ignore_errors=True)
                    raise
        return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside. The lock is the kernel's, so it goes with its process however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for a JSON-compatible value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def files_digest(folder: Path, files: Iterable[Path]) -> str:
    """Stands for the files' names, relative to the folder, and their content."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.relative_to(folder).as_posix()}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def folder_digest(folder: Path) -> str:
    """Stands for everything in a folder."""
    return files_digest(folder, (path for path in folder.rglob("*") if path.is_file()))


@cache
def code_digest(*names: str) -> str:
    """Stands for what modules do, whatever their comments, docstrings and layout.

    names: files or folders below `gpu_jobs`. Read once in a process, which goes on with the code that it has loaded.
    """
    total = hashlib.sha256()
    for name in sorted(names):
        path = GPU_JOBS / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            total.update(f"{file.relative_to(GPU_JOBS).as_posix()}\0{_code(file.read_text(encoding='utf-8'))}\n".encode())
    return total.hexdigest()[:16]


def _code(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a docstring, or text under a field that acts as one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
