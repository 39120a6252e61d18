"""Going through samples in batches, so that one bad sample costs itself and nothing else."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.records import Record, SetAside
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs

Result = TypeVar("Result")

# What a bad sample can raise. Anything else is a fault of ours and ends the step, loudly.
SAMPLE_FAILURES = (InputError, OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError)
# What looks like it, but is the machine's trouble: set aside for it, honest samples would go unexamined behind a step that succeeds.
MACHINE_ERRORS = frozenset(
    getattr(errno, name) for name in ("EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EDQUOT", "EROFS", "ESTALE") if hasattr(errno, name)
)
MACHINE_WORDS = (
    "CUDA error",
    "CUDA driver",
    "cuDNN",
    "CUBLAS",
    "cuBLAS",
    "NCCL",
    "HIP error",
    "DefaultCPUAllocator",
    "can't allocate memory",
)


def in_batches(
    samples: Sequence[Sample], size: int, work: Callable[[Sequence[Sample]], Sequence[Result]]
) -> Iterator[list[Result | SetAside]]:
    """The results of `work`, batch by batch, one for each sample in order.

    A batch that fails is tried again sample by sample; a sample that fails alone is set aside with the reason. A batch
    that does not fit into the accelerator's memory is halved, and so are those after it. What is the machine's fault, a
    broken accelerator or a full disk, is raised: no sample is to blame.
    """
    start = 0
    while start < len(samples):
        batch = samples[start : start + size]
        try:
            results: list[Result | SetAside] = list(work(batch))
        except torch.OutOfMemoryError:
            if len(batch) > 1:
                size = len(batch) // 2
                continue
            results = [SetAside(batch[0].id, "does not fit into the accelerator's memory")]
        except SAMPLE_FAILURES as failure:
            _raise_if_the_machines(failure)
            results = [_alone(sample, work) for sample in batch]
        start += len(batch)
        yield results


def save_batches(
    inputs: StepInputs, reporter: Reporter, samples: Sequence[Sample], name: str, work: Callable[[Sequence[Sample]], Sequence[Record]]
) -> Path:
    """Write the results of `work` to the file `name` of the outputs, a row for each sample, and to SET_ASIDE what was set aside.

    Saved after each batch; a later attempt goes on behind what was saved. Returns the file.
    """
    results, set_aside = inputs.checkpoint / name, inputs.checkpoint / records.SET_ASIDE
    done = {row["id"] for row in (*records.resume_rows(results), *records.resume_rows(set_aside))}
    remaining, total = [sample for sample in samples if sample.id not in done], len(samples)
    finished = total - len(remaining)
    reporter.progress(finished, total, "samples")
    for batch in in_batches(remaining, inputs.parameters.batch_size, work):
        with results.open("a", encoding="utf-8") as new, set_aside.open("a", encoding="utf-8") as aside:
            for result in batch:
                (aside if isinstance(result, SetAside) else new).write(records.to_line(result))
        finished += len(batch)
        reporter.checkpoint()
        reporter.progress(finished, total, "samples")
    shutil.copy(set_aside, inputs.outputs)
    return Path(shutil.copy(results, inputs.outputs))


def _alone(sample: Sample, work: Callable[[Sequence[Sample]], Sequence[Result]]) -> Result | SetAside:
    try:
        return work([sample])[0]
    except SAMPLE_FAILURES as failure:
        _raise_if_the_machines(failure)
        return SetAside(sample.id, f"{type(failure).__name__}: {failure}")


def _raise_if_the_machines(failure: BaseException) -> None:
    """Raise the failure again if another machine, or this one mended, would not have it."""
    broken = isinstance(failure, torch.AcceleratorError) or (
        isinstance(failure, RuntimeError)
        and not isinstance(failure, torch.OutOfMemoryError)
        and any(words in str(failure) for words in MACHINE_WORDS)
    )
    if broken or (isinstance(failure, OSError) and failure.errno in MACHINE_ERRORS):
        raise failure
