"""How far a job is, from what its steps have told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.jobs.tables import StepRow


def stage_progress(stage: str | None, steps: Sequence[StepRow]) -> dict[str, Any] | None:
    """`{done, total, unit, eta_seconds}` of one stage over all its shards; None before any of them has told its size.

    A step tells `{done, total, unit, per_second}`. Shards are cut equally, so one that has not started counts as large
    as the mean of the others; the time left assumes that as many workers keep their pace.
    """
    shards = [step for step in steps if step.kind == stage]
    told = [step.progress for step in shards if step.progress is not None]
    if not told:
        return None
    total = round(sum(progress["total"] for progress in told) / len(told) * len(shards))
    done = sum(progress["done"] for progress in told)
    pace = sum(step.progress["per_second"] or 0.0 for step in shards if step.progress is not None and step.status == "running")
    eta = round((total - done) / pace) if pace > 0 and done < total else None
    return {"done": done, "total": total, "unit": told[0]["unit"], "eta_seconds": 0 if done >= total else eta}


def attempts(steps: Sequence[StepRow]) -> int:
    """How often the job's most troublesome step was begun."""
    return max((step.attempt for step in steps), default=0)
