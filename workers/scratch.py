"""Folders of running steps, and the removal of those whose process was killed.

Beside each folder lies a file that its process holds locked (`flock`) as long as it lives. The system lets go of the lock with the
process, so it tells the living from the dead also where containers share a volume: there, a process id says nothing.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".lock"
# Seconds. No step of another version is at work for so long without touching its folder.
KEPT = 24 * 3600.0


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """An empty folder of this process in `root`, gone afterwards. Its name begins with the process's id, and is never used again."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock, held = _hold_new(root, f"{os.getpid()}-{name}")
    with held:
        folder = lock.with_suffix("")
        try:
            folder.mkdir()
            yield folder
        finally:
            _remove(folder, lock)


def remove_scratch_of_the_dead(root: Path) -> None:
    """What killed processes left behind in `root`; their steps are other processes' now, in folders of their own."""
    for lock in root.glob(f"*{SUFFIX}"):
        try:
            with lock.open("r+b") as file:  # NFS gives its lock to writers only
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock.with_suffix(""), lock)
        except (BlockingIOError, FileNotFoundError):
            pass  # somebody works there, or has just left
    for folder in root.iterdir():
        with suppress(FileNotFoundError):
            # One without a lock was some other version's, which nothing says to be alive.
            if folder.is_dir() and not folder.with_name(f"{folder.name}{SUFFIX}").exists() and folder.stat().st_ctime < time.time() - KEPT:
                shutil.rmtree(folder, ignore_errors=True)


def _hold_new(root: Path, name: str) -> tuple[Path, BinaryIO]:
    """A new lock file, held until it is closed."""
    while True:
        path = root / f"{name}-{secrets.token_hex(4)}{SUFFIX}"
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()  # taken for a dead one's and removed, before it was locked


def _remove(folder: Path, lock: Path) -> None:
    """The lock goes last, so that what could not be removed is found again."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock.unlink(missing_ok=True)
