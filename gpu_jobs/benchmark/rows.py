"""The rows of results, one JSON object a line: what a figure in a table can be traced to."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from gpu_jobs.benchmark.cells import Cell

PACKAGES = ("lustral", "torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one cell. Shares lie between 0 and 1; null where a field does not apply.

    oracle: the method reads the truth: a yardstick, no rival.
    samples: of the training set.
    n: held-out samples behind each share: triggered ones, of which there are none for a clean model, and as many clean ones.
    took: whether the attack success rate before the defence was high enough for a defence to be judged by.
    epochs: that the suspect was trained for.
    asr_*: triggered answers that show the target; clean_*: clean answers that are right; recovered_*: triggered answers
        that are right. *_before: the suspect; *_after: what the method made; *_clean_twin: the same fine-tune before the attack;
        recovered_oracle: a fine-tune of the suspect on the right answers.
    scan_auroc: how well the scan's scores tell poisoned samples from the rest.
    target_found: whether the verdict names the target.
    flags_tpr, flags_fpr: shares of the poisoned and of the other training samples that are flagged.
    residual: poisoned samples that still show the target in the purified set.
    kept: clean samples that keep their answers in it.
    set_aside: samples left out of it.
    code: digest of the code that the outcome follows from, comments and docstrings left out.
    error: in place of figures where the method failed.
    """

    cell: str
    data: str
    trigger: str
    target: str
    rate: float
    injection: str
    flavour: str
    seed: int
    method: str
    family: str | None = None
    oracle: bool = False
    samples: int | None = None
    n: int | None = None
    took: bool | None = None
    epochs: float | None = None
    asr_before: float | None = None
    asr_after: float | None = None
    asr_clean_twin: float | None = None
    clean_before: float | None = None
    clean_after: float | None = None
    clean_twin: float | None = None
    recovered_before: float | None = None
    recovered_after: float | None = None
    recovered_oracle: float | None = None
    scan_auroc: float | None = None
    verdict: str | None = None
    target_found: bool | None = None
    flags_tpr: float | None = None
    flags_fpr: float | None = None
    residual: float | None = None
    kept: float | None = None
    set_aside: int | None = None
    seconds: float | None = None
    versions: dict[str, str] | None = None
    machine: str | None = None
    code: str | None = None
    error: str | None = None

    @classmethod
    def of(cls, cell: Cell, method: str, **fields: Any) -> Self:
        return cls(
            cell.id, cell.data, cell.trigger, cell.target, cell.rate, cell.injection, cell.flavour, cell.seed, method, **fields
        )  # fmt: skip

    @property
    def attacked(self) -> bool:
        return self.trigger != "none"

    def to_line(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def read_rows(paths: Iterable[Path]) -> list[Row]:
    """The rows of some files, the last one of each cell and method. A line that was cut off by a crash is left out."""
    found: dict[tuple[str, str], Row] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                row = Row(**json.loads(line))
                found.pop((row.cell, row.method), None)
                found[row.cell, row.method] = row
    return list(found.values())


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def machine() -> str:
    """What computed, in words: never a host's name."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0] if named else model
    return f"{model}, {os.cpu_count()} cores, one thread a process"
