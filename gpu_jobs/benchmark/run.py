"""Run a suite: plan what is missing in the file of results, have it worked on, and add each row as it is finished."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from gpu_jobs.benchmark.attack import Settings
from gpu_jobs.benchmark.cells import Cell, Injection
from gpu_jobs.benchmark.methods import METHODS, ORACLE, PIPELINES
from gpu_jobs.benchmark.rows import Row, read_rows
from gpu_jobs.benchmark.workers import Task, work_on

# Of one epoch, against one of the adapter's.
COST: dict[Injection, float] = {"full": 2.0, "lora": 1.5, "projector": 1.0}


def run(cells: Sequence[Cell], methods: Sequence[str], out: Path, work: Path, settings: Settings, processes: int) -> int:
    """Measure every method on every cell and write the rows to `out`. Rows that are there already are kept, errors tried again.

    Returns: how many rows failed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _drop_cut_off_line(out)
    tasks = plan(cells, methods, read_rows([out]) if out.exists() else [])
    total, done, failed = sum(len(task.methods) for task in tasks), 0, 0
    _say(f"{total} rows to make on {len(tasks)} cells, in {processes} processes")
    with out.open("a", encoding="utf-8") as file, closing(work_on(tasks, work, settings, processes)) as rows:
        for row in rows:
            file.write(row.to_line())
            file.flush()
            os.fsync(file.fileno())
            done += 1
            failed += row.error is not None
            _say(f"{done}/{total} {row.cell} {row.method}: {_summary(row)}")
    return failed


def plan(cells: Sequence[Cell], methods: Sequence[str], rows: Sequence[Row]) -> list[Task]:
    """What is missing, the longest task first, so that none is left over at the end."""
    done = {(row.cell, row.method) for row in rows if row.error is None}
    tasks = []
    for cell in cells:
        missing = tuple(method for method in methods if applies(method, cell) and (cell.id, method) not in done)
        if missing:
            tasks.append(Task(cell, missing))
    return sorted(tasks, key=lambda task: -_cost(task))


def applies(method: str, cell: Cell) -> bool:
    """Rivals and oracles reach no verdict: on a clean model they have nothing to say."""
    return cell.attacked or method in PIPELINES or method == "none"


def check_methods(names: Sequence[str]) -> tuple[str, ...]:
    """The names in the order of `METHODS`: the product and the oracle first, as others build on what they leave in the store.

    Raises:
        ValueError: there is no method of a name.
    """
    unknown = sorted({*names} - {*METHODS})
    if unknown:
        raise ValueError(f"no such method: {', '.join(unknown)}; there are {', '.join(METHODS)}")
    order = [*PIPELINES, ORACLE, *METHODS]
    return tuple(sorted({*names}, key=order.index))


def _cost(task: Task) -> float:
    training = 6 if task.cell.attacked else 2
    return COST[task.cell.injection] * (training + len(task.methods))


def _drop_cut_off_line(path: Path) -> None:
    """A run that was killed while it wrote leaves half a row."""
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _summary(row: Row) -> str:
    if row.error is not None:
        return row.error
    if not row.attacked:
        return f"verdict {row.verdict}, clean {_percent(row.clean_before)} → {_percent(row.clean_after)}, {row.seconds} s"
    return (
        f"attack {_percent(row.asr_before)} → {_percent(row.asr_after)}, clean {_percent(row.clean_before)} → {_percent(row.clean_after)}, "
        f"recovered {_percent(row.recovered_after)} of {_percent(row.recovered_oracle)}, {row.seconds} s"
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
