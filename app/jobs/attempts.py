"""The history of a step: one row for each time that a worker took it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.jobs.tables import StepAttemptRow, StepRow

Outcome = Literal["succeeded", "failed", "lost", "handed_back", "cancelled"]
WORKER_LOST = "worker-lost"


def begin_attempt(session: Session, step: StepRow, *, now: datetime) -> None:
    """The step has just been claimed."""
    session.add(StepAttemptRow(step_id=step.id, number=step.attempt, worker=step.worker or "", started_at=now))


def end_attempt(session: Session, step_id: str, number: int, *, status: str, error: dict[str, Any] | None, now: datetime) -> None:
    """The step was let go of in this `status`."""
    attempt = (StepAttemptRow.step_id == step_id, StepAttemptRow.number == number)
    values = {"ended_at": now, "outcome": _outcome(status, error), "error": error}
    session.execute(update(StepAttemptRow).where(*attempt).values(values).execution_options(synchronize_session=False))


def name_log(session: Session, step_id: str, number: int, artifact_id: str) -> None:
    """This artifact is the log of the attempt."""
    attempt = (StepAttemptRow.step_id == step_id, StepAttemptRow.number == number)
    session.execute(update(StepAttemptRow).where(*attempt).values(log_artifact_id=artifact_id).execution_options(synchronize_session=False))


def cancel_attempts(session: Session, job_id: str, *, now: datetime) -> None:
    """Steps of the job were taken from their workers."""
    steps = select(StepRow.id).where(StepRow.job_id == job_id, StepRow.status == "cancelled")
    running = (StepAttemptRow.step_id.in_(steps), StepAttemptRow.ended_at.is_(None))
    session.execute(
        update(StepAttemptRow).where(*running).values(ended_at=now, outcome="cancelled").execution_options(synchronize_session=False)
    )


def _outcome(status: str, error: dict[str, Any] | None) -> Outcome:
    if status == "succeeded":
        return "succeeded"
    if status == "cancelled":
        return "cancelled"
    if error is None:
        return "handed_back"
    return "lost" if error["type"].endswith(f":{WORKER_LOST}") else "failed"
