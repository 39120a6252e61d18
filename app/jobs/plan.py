"""The stages of each kind of job, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpu_jobs.config import JobKind, StepKind

Queue = Literal["gpu", "io"]

STAGES: dict[JobKind, tuple[StepKind, ...]] = {
    "scan": ("scan", "verdict", "publish"),
    "purify": ("scan", "verdict", "forget", "purify", "merge", "publish"),
    "finetune": ("finetune", "publish"),
    "evaluate": ("evaluate", "publish"),
    "defend": ("scan", "verdict", "forget", "purify", "merge", "finetune", "evaluate", "publish"),
}

# Answering samples is independent work, so these stages are cut into shards that several workers share.
SHARDED: frozenset[StepKind] = frozenset({"scan", "purify"})

# What needs no accelerator must not wait behind what does.
ON_IO: frozenset[StepKind] = frozenset({"publish"})


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a job that does not exist yet; see `StepRow` for the terms."""

    kind: StepKind
    position: int
    shard: int
    shards: int
    queue: Queue


def plan_steps(kind: JobKind, shards: int) -> list[PlannedStep]:
    """All steps of a job; `shards` is how many parts its sharded stages are cut into."""
    return [
        PlannedStep(stage, position, shard, parts, "io" if stage in ON_IO else "gpu")
        for position, stage in enumerate(STAGES[kind])
        for parts in (shards if stage in SHARDED else 1,)
        for shard in range(parts)
    ]
