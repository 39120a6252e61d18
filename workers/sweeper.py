"""Deletes what finished jobs stored and nothing names any more: outputs of attempts that failed, and checkpoints."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.artifacts.tables import ArtifactRow
from app.db import database_now
from app.jobs.states import FINAL
from app.jobs.tables import JobRow, StepRow
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
    """Delete everything under the job's prefix that neither an artifact nor a succeeded step names."""
    with context.sessions() as session:
        named = _named_keys(session, job_id)
    orphans = {key for key in context.store.list(f"jobs/{job_id}/") if key not in named}
    delete_quietly(context.store, orphans)
    with context.sessions.begin() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(swept_at=database_now(session)))
    if orphans:
        log.info("job.swept", job_id=job_id, objects=len(orphans))
    return len(orphans)


def _unswept(session: Session, now: datetime) -> list[str]:
    over = select(JobRow.id).where(JobRow.swept_at.is_(None), JobRow.status.in_(FINAL), JobRow.finished_at < now - GRACE)
    return list(session.scalars(over.order_by(JobRow.finished_at).limit(BATCH)))


def _named_keys(session: Session, job_id: str) -> set[str]:
    named = set(session.scalars(select(ArtifactRow.key).where(ArtifactRow.job_id == job_id)))
    for outputs in session.scalars(select(StepRow.outputs).where(StepRow.job_id == job_id, StepRow.status == "succeeded")):
        named |= {file["key"] for file in (outputs or {}).get("files", [])}
    return named
