"""The one door into the science: every kind of step is a function over local folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpu_jobs.config import JobParameters, StepKind, Target
from gpu_jobs.reporting import Reporter


@dataclass(frozen=True, slots=True)
class EvaluationSets:
    """Held-out data a caller brought: triggered samples carry their *right* answers, clean samples too."""

    triggered: Path | None = None
    clean: Path | None = None
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class StepInputs:
    """All that a step may read, and the two folders it may write.

    `previous` maps a finished step's kind to the output folders of its shards, in shard order, and `results` maps it
    to what those shards returned. `outputs` starts empty. `checkpoint` holds what an earlier attempt of this very
    step had saved when it died, or is empty. `about` names the job for its report: `job_id`, `kind`, `model_id`,
    `model_name`, `dataset_id`, `dataset_name`, `created_at`, `signing_key` (fingerprint of the key that will sign its artifacts),
    each where it exists. `digests` names the content of some of the folders: equal digests, equal bytes. `scratch` is an empty folder that
    `run_step` makes and removes.
    """

    parameters: JobParameters
    outputs: Path
    checkpoint: Path
    model: Path | None = None
    dataset: Path | None = None
    evaluation: EvaluationSets = EvaluationSets()
    shard: int = 0
    shards: int = 1
    previous: Mapping[StepKind, tuple[Path, ...]] = field(default_factory=dict)
    results: Mapping[StepKind, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[Path, str] = field(default_factory=dict)
    scratch: Path = Path()


Step = Callable[[StepInputs, Reporter], dict[str, Any]]

# What each step writes is listed in `gpu_jobs/defense/records.py`, what it returns in its function's docstring.
STEPS: Mapping[StepKind, tuple[str, str]] = {
    "scan": ("gpu_jobs.defense.scan", "scan"),
    "verdict": ("gpu_jobs.defense.verdict", "judge"),
    "forget": ("gpu_jobs.defense.forget", "forget"),
    "purify": ("gpu_jobs.defense.purify", "purify"),
    "merge": ("gpu_jobs.defense.merge", "merge"),
    "finetune": ("gpu_jobs.defense.finetune", "finetune"),
    "evaluate": ("gpu_jobs.defense.evaluate", "evaluate"),
    "publish": ("gpu_jobs.report.publish", "publish"),
}


def run_step(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Run one step and return its result, a small JSON-compatible dict; files go to `inputs.outputs`.

    Raises:
        Cancelled: the reporter said stop.
        gpu_jobs.errors.InputError: the inputs cannot be used, whoever tries again.
    """
    # Imported here: torch and transformers take seconds, and a step needs only its own part of them.
    module, function = STEPS[kind]
    run: Step = getattr(import_module(module), function)
    with TemporaryDirectory(prefix="lustral-") as scratch:
        return run(replace(inputs, scratch=Path(scratch)), reporter)
