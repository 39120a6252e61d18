"""Which samples are kept out of the fine-tune: they tell what a round of it costs, and its effect where no evaluation set was given."""

from __future__ import annotations

import hashlib

from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample


def is_held_out(sample: Sample, parameters: JobParameters) -> bool:
    """Decided by the seed and the sample's id alone, so that every step agrees."""
    digest = hashlib.sha256(f"{parameters.seed}\0held out\0{sample.id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < parameters.evaluate.held_out * 2**64
