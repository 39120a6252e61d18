"""What a step needs of a machine at the least, told before anything is loaded. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpu_jobs.config import JobParameters, StepKind

HALF, SINGLE = 2, 4
# For each weight that learns: its gradient and AdamW's two moments, in single precision.
LEARNING = 3 * SINGLE
ASKED: frozenset[StepKind] = frozenset({"scan", "verdict", "purify", "evaluate"})


Results = Mapping[StepKind, Sequence[Mapping[str, Any]]]
"""What the steps before returned, shard by shard, as `gpu_jobs.steps.StepInputs` has it."""


def nothing_to_train(results: Results) -> bool:
    """Whether the steps before found nothing to change. A job that only fine-tunes has no such steps."""
    merged = results.get("merge")
    return merged is not None and merged[0]["reanswered"] == 0 and results["verdict"][0]["verdict"] != "backdoored"


def least_memory(kind: StepKind, parameters: JobParameters, weights: int, results: Results, *, accelerator: bool) -> int:
    """Bytes, of the accelerator if there is one: those of a model of so many `weights`, and of what training keeps beside them.

    With less the step cannot run. What goes through the model comes on top and is not counted: batches are halved until they fit.
    Of a step that may find nothing to do, nothing is asked.
    """
    if kind in ASKED:
        return weights * (HALF if accelerator else SINGLE)
    if kind != "finetune" or nothing_to_train(results):
        return 0
    parts = parameters.finetune.trainable
    # The other parts are small beside the language model, and so is an adapter.
    learning = weights if parts is None or "language_model" in parts else 0
    return weights * SINGLE + learning * LEARNING
