"""The whole defence on local folders, without jobs or servers: what tests and benchmarks run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_jobs.config import JobParameters, StepKind
from gpu_jobs.reporting import Reporter, SilentReporter
from gpu_jobs.steps import EvaluationSets, StepInputs, run_step

DEFENSE: tuple[StepKind, ...] = ("scan", "verdict", "forget", "purify", "merge", "finetune", "evaluate")
SHARDED: frozenset[StepKind] = frozenset({"scan", "purify"})


@dataclass(slots=True)
class Pipeline:
    """Runs steps one after the other in `out`, each with the outputs of those before it."""

    model: Path
    dataset: Path
    out: Path
    parameters: JobParameters
    evaluation: EvaluationSets = field(default_factory=EvaluationSets)
    reporter: Reporter = field(default_factory=SilentReporter)
    previous: dict[StepKind, tuple[Path, ...]] = field(default_factory=dict)
    results: dict[StepKind, tuple[dict[str, Any], ...]] = field(default_factory=dict)

    def run(self, kind: StepKind) -> tuple[dict[str, Any], ...]:
        """All shards of one step. Returns what they returned, in shard order."""
        shards = self.parameters.shards if kind in SHARDED else 1
        folders, results = [], []
        for shard in range(shards):
            inputs = StepInputs(
                parameters=self.parameters,
                outputs=self.out / f"{kind}-{shard}",
                checkpoint=self.out / "checkpoints" / f"{kind}-{shard}",
                model=self.model,
                dataset=self.dataset,
                evaluation=self.evaluation,
                shard=shard,
                shards=shards,
                previous=self.previous,
                results=self.results,
            )
            shutil.rmtree(inputs.outputs, ignore_errors=True)  # what an attempt that failed had written counts for nothing
            inputs.outputs.mkdir(parents=True)
            inputs.checkpoint.mkdir(parents=True, exist_ok=True)
            results.append(run_step(kind, inputs, self.reporter))
            folders.append(inputs.outputs)
        self.previous[kind], self.results[kind] = tuple(folders), tuple(results)
        return self.results[kind]


def defend(
    model: Path,
    dataset: Path,
    out: Path,
    parameters: JobParameters | None = None,
    evaluation: EvaluationSets | None = None,
    *,
    steps: Sequence[StepKind] = DEFENSE,
    reporter: Reporter | None = None,
) -> dict[StepKind, tuple[dict[str, Any], ...]]:
    """Run the steps of a defence in the new folder `out`. Returns the result of every step, by kind, one for each shard.

    Raises:
        gpu_jobs.errors.InputError: the inputs cannot be used.
    """
    pipeline = Pipeline(model, dataset, out, parameters or JobParameters(), evaluation or EvaluationSets(), reporter or SilentReporter())
    for kind in steps:
        pipeline.run(kind)
    return pipeline.results
