"""Named points in the life of a step at which a process can be made to meet its fate.

The test arms a point by a file; the first process that comes by takes the file and suffers what it names.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Point = Literal[
    "claimed",  # the claim is committed, nothing else has happened
    "staging",  # inputs are being fetched
    "mid-batch",  # half of the samples are done
    "checkpoint-stored",  # a checkpoint, or what was fetched, is in the store, no row names it
    "outputs-stored",  # outputs or thumbnails are in the store, no row names them
    "committed",  # the step is done, its message not acknowledged
    "about-to-publish",  # relay: state is committed, the broker has not heard
    "published",  # relay: the broker has heard, the outbox still holds the message
    "webhook-sent",  # the receiver has the message, no row says so
]
Fate = Literal["kill", "kill-group", "freeze", "disk-full", "hog"]

MEMORY = 300 * 1024 * 1024
"""Bytes that a process takes whose fate is `hog`."""


@dataclass(frozen=True)
class Armed:
    """One armed point, as the test sees it."""

    file: Path
    taken: Path

    def pid(self) -> int | None:
        """The process that took it, once one has."""
        found = next(self.taken.glob(f"{self.file.name}@*"), None)
        return None if found is None else int(found.name.rpartition("@")[2])

    def disarm(self) -> None:
        self.file.unlink(missing_ok=True)


@dataclass
class Points:
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        (self.folder / "taken").mkdir(parents=True, exist_ok=True)

    def arm(self, point: Point, fate: Fate) -> Armed:
        file = self.folder / f"{point}.{fate}.{next(self._numbers)}"
        file.touch()
        return Armed(file, self.folder / "taken")

    def reach(self, point: Point) -> None:
        """Called by processes under test."""
        for armed in self.folder.glob(f"{point}.*"):
            try:
                armed.rename(self.folder / "taken" / f"{armed.name}@{os.getpid()}")
            except FileNotFoundError:
                continue  # another process was faster
            _suffer(armed.name.split(".")[1])


def _suffer(fate: str) -> None:
    if fate == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fate == "kill-group":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    elif fate == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fate == "disk-full":
        with Path("/dev/full").open("wb") as full:
            full.write(b"no room for this")
    else:
        hog = b"\1" * MEMORY
        time.sleep(60)
        raise AssertionError(f"nobody killed this process with its {len(hog)} bytes")
