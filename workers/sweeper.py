"""Deletes stored bytes that nothing names any more: outputs of attempts that failed, checkpoints, and what deleted rows left behind."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.blobs.tables import BlobRow
from app.datasets.tables import DatasetRow
from app.db import database_now
from app.jobs.states import FINAL
from app.jobs.tables import JobRow, StepRow
from app.models.tables import ModelRow
from workers.checkpoints import delete_quietly
from workers.context import Context

log = structlog.get_logger()

BATCH = 50
# A worker that lost its lease stops within seconds; what it still uploaded then is there by now.
GRACE = timedelta(minutes=15)


def sweep(context: Context) -> int:
    """Sweep jobs that have been over for a while, each once. Returns the number of objects deleted."""
    with context.sessions() as session:
        jobs = _unswept(session, database_now(session))
    deleted = 0
    for job_id in jobs:
        deleted += sweep_job(context, job_id)
    return deleted


def sweep_job(context: Context, job_id: str) -> int:
    """Delete everything under the job's prefix that neither a succeeded step nor a blob names. Returns the number of objects deleted."""
    deleted = _delete_unnamed(context, job_id, f"jobs/{job_id}/")
    with context.sessions.begin() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(swept_at=database_now(session)))
    return deleted


def sweep_deleted(context: Context, id: str) -> int:
    """Delete what a job, model or data set that is gone has stored, except for what became part of something else."""
    with context.sessions() as session:
        still_there = any(session.get(table, id) is not None for table in (JobRow, ModelRow, DatasetRow))
    if still_there:
        return 0
    return _delete_unnamed(context, id, f"jobs/{id}/" if id.startswith("job_") else f"inspections/{id}/")


def _delete_unnamed(context: Context, id: str, prefix: str) -> int:
    with context.sessions() as session:
        named = _named_keys(session, id, prefix)
    orphans = {key for key in context.store.keys(prefix) if key not in named}
    delete_quietly(context.store, orphans)
    if orphans:
        log.info("objects.swept", id=id, objects=len(orphans))
    return len(orphans)


def _unswept(session: Session, now: datetime) -> list[str]:
    over = select(JobRow.id).where(JobRow.swept_at.is_(None), JobRow.status.in_(FINAL), JobRow.finished_at < now - GRACE)
    return list(session.scalars(over.order_by(JobRow.finished_at).limit(BATCH)))


def _named_keys(session: Session, id: str, prefix: str) -> set[str]:
    # Blobs are deleted by their own housekeeping, once nothing refers to them.
    named = set(session.scalars(select(BlobRow.key).where(BlobRow.key.startswith(prefix, autoescape=True))))
    for outputs in session.scalars(select(StepRow.outputs).where(StepRow.subject_id == id, StepRow.status == "succeeded")):
        named |= {file["key"] for file in (outputs or {}).get("files", [])}
    return named
