"""The training log that is kept beside a checkpoint: one JSON object a line."""

from __future__ import annotations

import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers", "peft")


class TrainingLog:
    """Writes each line at once, so that an unfinished training shows how far it got, and echoes it to the terminal."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._started = time.monotonic()

    def start(self, *packages: str, **settings: Any) -> None:
        """The first line: seed, settings, and the versions of what computes and of the packages that the data come from."""
        versions = {name: version(name) for name in (*PACKAGES, *packages)}
        self.write("settings", **settings, python=platform.python_version(), **versions)

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, "seconds": round(time.monotonic() - self._started, 1), **values})
        self._file.write(f"{line}\n")
        self._file.flush()
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def close(self) -> None:
        self._file.close()
