"""A job's history: one row for each thing that happened, and a webhook message for those that receivers may hear of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.jobs.progress import stage_progress
from app.jobs.schemas import job_resource
from app.jobs.tables import EventRow, JobRow, StepRow
from app.webhooks.emit import emit

PROGRESS_EVENT_EVERY = timedelta(seconds=1)
PROGRESS_WEBHOOK_EVERY = timedelta(seconds=10)


def record(session: Session, job: JobRow, type: str, data: dict[str, Any], *, now: datetime) -> None:
    """Write one line of history. The caller holds the job's row lock, so numbers become visible in order."""
    session.add(EventRow(tenant_id=job.tenant_id, job_id=job.id, type=type, data=data, created_at=now))


def record_status(session: Session, job: JobRow, *, now: datetime) -> None:
    """Tell events and webhooks which status the job has just reached."""
    record(session, job, f"job.{_EVENT_OF[job.status]}", {"status": job.status, "stage": job.stage, "error": job.error}, now=now)
    if job.status != "cancelling":
        _emit(session, job, f"job.{_EVENT_OF[job.status]}", now=now)


def progress_due(session: Session, job_id: str, *, now: datetime) -> bool:
    """Whether `record_progress` would tell anything; read without a lock, so that another may be faster."""
    told = session.scalars(select(JobRow.progress_event_at).where(JobRow.id == job_id)).one_or_none()
    return told is None or now - told >= PROGRESS_EVENT_EVERY


def record_progress(session: Session, job: JobRow, *, finished: bool, now: datetime) -> None:
    """Tell how far the running stage is: at most once a second (webhooks: in ten), but always when a step has `finished` its units."""
    if not finished and job.progress_event_at is not None and now - job.progress_event_at < PROGRESS_EVENT_EVERY:
        return
    progress = stage_progress(job.stage, steps_of(session, job))
    if progress is None:
        return
    job.progress_event_at = now
    record(session, job, "job.progress", {"stage": job.stage, **progress}, now=now)
    if job.progress_webhook_at is None or now - job.progress_webhook_at >= PROGRESS_WEBHOOK_EVERY:
        job.progress_webhook_at = now
        _emit(session, job, "job.progress", now=now)


def steps_of(session: Session, job: JobRow) -> Sequence[StepRow]:
    session.flush()
    return session.scalars(select(StepRow).where(StepRow.job_id == job.id).order_by(StepRow.position, StepRow.shard)).all()


def _emit(session: Session, job: JobRow, type: str, *, now: datetime) -> None:
    resource = job_resource(job, steps_of(session, job)).model_dump(mode="json", exclude={"params"})
    emit(session, tenant_id=job.tenant_id, job_id=job.id, type=type, data=resource, now=now)


_EVENT_OF = {
    "queued": "queued",
    "running": "started",
    "cancelling": "cancelling",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
