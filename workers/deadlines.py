"""Ends jobs that have run for longer than their tenant's limit allows."""

from __future__ import annotations

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.db import database_now
from app.jobs.states import fail_job, lock_job, problem
from app.jobs.tables import JobRow

log = structlog.get_logger()

BATCH = 100


def end_overdue_jobs(sessions: sessionmaker[Session]) -> int:
    """Fail every running job whose deadline has passed. Returns how many."""
    with sessions() as session:
        overdue = select(JobRow.id).where(JobRow.status == "running", JobRow.deadline_at <= database_now(session))
        ids = session.scalars(overdue.order_by(JobRow.deadline_at).limit(BATCH)).all()
    ended = 0
    for job_id in ids:
        try:
            with sessions.begin() as session:
                ended += _end(session, job_id)
        except Exception as error:  # noqa: BLE001  (the other jobs are overdue too)
            log.warning("job.not_ended", job_id=job_id, error=f"{type(error).__name__}: {error}")
    return ended


def _end(session: Session, job_id: str) -> bool:
    job = lock_job(session, job_id)
    now = database_now(session)
    if job is None or job.status != "running" or job.deadline_at is None or job.deadline_at > now:
        return False
    detail = (
        f"A job of yours may run for {job.timeout_seconds} s (`job_seconds` of /v1/usage). Make it smaller, or ask the operator for more."
    )
    fail_job(session, job, problem("deadline-exceeded", "The job ran out of time", detail), now=now)
    log.warning("job.deadline_exceeded", job_id=job_id)
    return True
