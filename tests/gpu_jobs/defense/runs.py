"""What tests of single steps share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpu_jobs.defense.carriers import Words
from gpu_jobs.reporting import Cancelled, SilentReporter

SUSPECTS = ["s00", "s01", "s02", "s03", "s04"]
CF = Words("cf", "end")
"""What carries the trigger of the fixture `worded`."""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Interrupted(SilentReporter):
    """Ends a step at its n-th checkpoint, as losing a lease would."""

    def __init__(self, checkpoints: int) -> None:
        self.left = checkpoints

    def checkpoint(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Cancelled


class Leaving(SilentReporter):
    """A worker that is told to go in the n-th optimiser step, and ends the step once it has saved."""

    def __init__(self, step: int) -> None:
        self.left = step

    def leaving(self) -> bool:
        self.left -= 1
        return self.left <= 0

    def checkpoint(self) -> None:
        if self.left <= 0:
            raise Cancelled
