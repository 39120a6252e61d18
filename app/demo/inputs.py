"""The bundled suspect and the data around it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from app.client.files import files_in


@dataclass(frozen=True, slots=True)
class Inputs:
    """A model, what it was tuned on, and held-out sets: folders. `target` is as the API takes it."""

    model: Path
    training: Path
    triggered: Path
    clean: Path
    target: dict[str, str]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for folder in (self.model, self.training, self.triggered, self.clean) for path in files_in(folder))


def write_inputs(folder: Path, *options: str) -> Inputs:
    """Have the science write its data sets below `folder`. In a process of its own: this side imports none of it.

    options: see `python -m gpu_jobs.bundled --help`.
    """
    command = [sys.executable, "-m", "gpu_jobs.bundled", "--out", str(folder), *options]
    described = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    folders = {name: Path(described[name]) for name in ("model", "training", "triggered", "clean")}
    return Inputs(**folders, target=described["target"])
