"""How long each step of the defence takes on this machine, and what memory it needs."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gpu_jobs.benchmark.rows import machine, versions
from gpu_jobs.config import JobParameters
from gpu_jobs.defense.pipeline import DEFENSE, Pipeline
from gpu_jobs.defense.subject import load_model
from gpu_jobs.reporting import SilentReporter

# What `ru_maxrss` counts in: kilobytes, but bytes on macOS.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Counter(SilentReporter):
    """Remembers how many units the step that runs has finished."""

    def __init__(self) -> None:
        self.done, self.unit = 0, ""

    def progress(self, done: int, total: int, unit: str) -> None:  # noqa: ARG002
        self.done, self.unit = done, unit


def measure(model: Path, dataset: Path, out: Path, parameters: JobParameters) -> Iterator[dict[str, Any]]:
    """Load the model, then run every step of a defence in the new folder `out`, one shard each; a row for each as it ends.

    A row: `step`, `seconds`, `units` (samples or optimiser steps) and `per_second` where the step counts any, `peak_memory_bytes` (of the
    accelerator in this step; without one, of the process so far), `device`, `weights`, `batch_size`, `seed`, `versions`, `machine`.
    """
    begun = time.monotonic()
    weights = sum(parameter.numel() for parameter in load_model(model).network.parameters())
    about = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "weights": weights,
        "batch_size": parameters.batch_size,
        "seed": parameters.seed,
        "versions": versions(),
        "machine": machine(),
    }
    yield {**_row("load", time.monotonic() - begun, Counter()), **about}
    pipeline = Pipeline(model, dataset, out, parameters.model_copy(update={"shards": 1}))
    for step in DEFENSE:
        counter = pipeline.reporter = Counter()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        begun = time.monotonic()
        pipeline.run(step)
        yield {**_row(step, time.monotonic() - begun, counter), **about}


def _row(step: str, seconds: float, counter: Counter) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    return {
        "step": step,
        "seconds": round(seconds, 3),
        "units": counter.done or None,
        "unit": counter.unit or None,
        "per_second": round(counter.done / seconds, 2) if counter.done else None,
        "peak_memory_bytes": peak,
    }
