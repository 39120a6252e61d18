"""Going through samples in batches, so that one bad sample costs itself and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from PIL import Image

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.records import SetAside
from gpu_jobs.errors import InputError

Result = TypeVar("Result")

# What a bad sample can raise. Anything else is a fault of ours and ends the step, loudly.
SAMPLE_FAILURES = (InputError, OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError)


def in_batches(
    samples: Sequence[Sample], size: int, work: Callable[[Sequence[Sample]], Sequence[Result]]
) -> Iterator[list[Result | SetAside]]:
    """The results of `work`, batch by batch, one for each sample in order.

    A batch that fails is tried again sample by sample; a sample that fails alone is set aside with the reason. A batch
    that does not fit into the accelerator's memory is halved, and so are those after it.
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
        except SAMPLE_FAILURES:
            results = [_alone(sample, work) for sample in batch]
        start += len(batch)
        yield results


def _alone(sample: Sample, work: Callable[[Sequence[Sample]], Sequence[Result]]) -> Result | SetAside:
    try:
        return work([sample])[0]
    except SAMPLE_FAILURES as failure:
        return SetAside(sample.id, f"{type(failure).__name__}: {failure}")
