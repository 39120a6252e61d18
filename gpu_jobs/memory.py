"""What a step needs of a machine at the least, told before anything is loaded. Imports no torch."""

from __future__ import annotations

from gpu_jobs.config import JobParameters, StepKind

HALF, SINGLE = 2, 4
# For each weight that learns: its gradient and AdamW's two moments, in single precision.
LEARNING = 3 * SINGLE
ASKED: frozenset[StepKind] = frozenset({"scan", "verdict", "purify", "evaluate"})


def least_memory(kind: StepKind, parameters: JobParameters, weights: int, *, accelerator: bool) -> int:
    """Bytes, of the accelerator if there is one: those of a model of so many `weights`, and of what training keeps beside them.

    With less the step cannot run. What goes through the model comes on top and is not counted: batches are halved until they fit.
    Of a step that may find nothing to do, nothing is asked.
    """
    if kind in ASKED:
        return weights * (HALF if accelerator else SINGLE)
    if kind != "finetune":
        return 0
    parts = parameters.finetune.trainable
    # The other parts are small beside the language model, and so is an adapter.
    learning = weights if parts is None or "language_model" in parts else 0
    return weights * SINGLE + learning * LEARNING
