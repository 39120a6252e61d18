"""The product itself on a cell: the defence's own pipeline on the folder of the training set, and what it is known by."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_jobs.benchmark.attack import Attacked
from gpu_jobs.benchmark.measure import auroc, share
from gpu_jobs.benchmark.store import Store, code_digest, read_json, write_json
from gpu_jobs.config import JobParameters, StepKind, Target
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.merge import purified_samples
from gpu_jobs.defense.pipeline import DEFENSE, defend
from gpu_jobs.defense.scoring import is_attacked, normalise

# The evaluation is ours: no test set and no target is told to the defence.
STEPS: tuple[StepKind, ...] = tuple(kind for kind in DEFENSE if kind != "evaluate")
RESULT = "result.json"
# The code that the outcome of a defence follows from.
CODE = ("defense", "diffusion", "families", "data", "config.py", "steps.py")


@dataclass(frozen=True, slots=True)
class Defended:
    """A finished run of the pipeline.

    scores: of each sample, the higher the more suspicious.
    seconds: that the run took.
    """

    folder: Path
    verdict: dict[str, Any]
    merged: dict[str, Any]
    flagged: frozenset[str]
    scores: Mapping[str, float]
    seconds: float

    @property
    def model(self) -> Path:
        return self.folder / "finetune-0" / records.MODEL

    def facts(self, attacked: Attacked) -> dict[str, Any]:
        """What a row says of detection and of the purified set."""
        poisoned, criterion = attacked.sets.poisoned, attacked.sets.criterion
        given = {sample.id: sample for sample in attacked.sets.training_samples()}
        purified = {sample.id: sample for sample in purified_samples(list(given.values()), self.folder / "merge-0")}
        clean = given.keys() - poisoned
        return {
            "scan_auroc": auroc(self.scores, poisoned),
            "verdict": self.verdict["verdict"],
            "target_found": target_found(self.verdict, criterion),
            "flags_tpr": share(identity in self.flagged for identity in poisoned),
            "flags_fpr": share(identity in self.flagged for identity in clean),
            "residual": share(_shows(purified.get(identity), criterion) for identity in poisoned) if criterion else None,
            "kept": share(identity in purified and purified[identity].answers == given[identity].answers for identity in clean),
            "set_aside": self.merged["set_aside"],
        }


def defended(attacked: Attacked, parameters: JobParameters, store: Store) -> Defended:
    """Run the pipeline on a cell, or find the run in the store."""

    def make(out: Path) -> None:
        began = time.monotonic()
        results = defend(attacked.suspect, attacked.sets.training, out, parameters, steps=STEPS)
        seconds = round(time.monotonic() - began, 1)
        shutil.rmtree(out / "checkpoints")
        (out / "merge-0" / records.DATASET_ZIP).unlink()
        write_json(out / RESULT, {"verdict": results["verdict"][0], "merge": results["merge"][0], "seconds": seconds})

    key = {"cell": attacked.digest, "parameters": parameters.model_dump(mode="json"), "code": code_digest(*CODE)}
    folder = store.entry("defended", key, make)
    result = read_json(folder / RESULT)
    flagged = frozenset(row["id"] for row in records.read_rows(folder / "verdict-0" / records.SUSPECTS))
    scores = dict.fromkeys((sample.id for sample in attacked.sets.training_samples()), 0.0)
    found = {row["id"]: float(row["score"]) for row in records.read_rows(folder / "verdict-0" / records.SCORES)}
    # A scan that gives no scores is judged by its flags.
    scores |= found or dict.fromkeys(flagged, 1.0)
    return Defended(folder, result["verdict"], result["merge"], flagged, scores, result["seconds"])


def target_found(verdict: Mapping[str, Any], criterion: Target | None) -> bool | None:
    """Whether the text that the verdict names shows the target. None for a model without one."""
    if criterion is None:
        return None
    named = verdict["target"]
    if named is None:
        return False
    # The verdict names parts of answers in normalised words.
    return is_attacked(named["text"], criterion) or is_attacked(named["text"], _normalised(criterion))


def _normalised(criterion: Target) -> Target:
    return criterion.model_copy(update={"contains": normalise(criterion.contains)}) if hasattr(criterion, "contains") else criterion


def _shows(sample: Sample | None, criterion: Target) -> bool:
    """A sample that was set aside shows nothing."""
    return sample is not None and any(is_attacked(answer, criterion) for answer in sample.answers)
