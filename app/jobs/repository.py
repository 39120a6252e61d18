"""The SQL of jobs that requests need, scoped by tenant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session, defer

from app.db import chunked
from app.jobs.states import UNFINISHED
from app.jobs.tables import EventRow, JobRow, StepAttemptRow, StepRow
from app.repository import count_owned, owned


def steps_by_job(session: Session, job_ids: Sequence[str]) -> Mapping[str, list[StepRow]]:
    """The steps of these jobs, without their outputs and results, which may be long."""
    lean = (defer(StepRow.outputs), defer(StepRow.result), defer(StepRow.checkpoint))
    found: dict[str, list[StepRow]] = defaultdict(list)
    for step in session.scalars(select(StepRow).where(StepRow.job_id.in_(job_ids)).options(*lean)):
        if step.job_id is not None:
            found[step.job_id].append(step)
    return found


def list_steps(session: Session, job_id: str, *, after: str | None, limit: int) -> Sequence[StepRow]:
    """A page of a job's steps in the order in which they run, past the step `after`."""
    lean = (defer(StepRow.outputs), defer(StepRow.result), defer(StepRow.checkpoint))
    place = tuple_(StepRow.position, StepRow.shard)
    query = select(StepRow).where(StepRow.job_id == job_id).order_by(StepRow.position, StepRow.shard).limit(limit).options(*lean)
    last = None if after is None else session.scalars(select(StepRow).where(StepRow.job_id == job_id, StepRow.id == after)).one_or_none()
    if last is not None:
        query = query.where(place > tuple_(last.position, last.shard))
    return session.scalars(query).all()


def attempts_by_step(session: Session, step_ids: Sequence[str]) -> Mapping[str, list[StepAttemptRow]]:
    """Every attempt at these steps, in order."""
    found: dict[str, list[StepAttemptRow]] = defaultdict(list)
    for attempt in session.scalars(select(StepAttemptRow).where(StepAttemptRow.step_id.in_(step_ids)).order_by(StepAttemptRow.number)):
        found[attempt.step_id].append(attempt)
    return found


def count_unfinished(session: Session, tenant_id: str) -> int:
    return count_owned(session, JobRow, tenant_id, JobRow.status.in_(UNFINISHED))


def unfinished_jobs_reading(session: Session, tenant_id: str, input_id: str) -> Sequence[str]:
    """Ids of the tenant's jobs that still need this model or data set."""
    reads = (JobRow.model_id == input_id) | (JobRow.dataset_id == input_id)
    evaluates = (JobRow.triggered_dataset_id == input_id) | (JobRow.clean_dataset_id == input_id)
    needing = (owned(JobRow, tenant_id), JobRow.status.in_(UNFINISHED), reads | evaluates)
    return session.scalars(select(JobRow.id).where(*needing).order_by(JobRow.id)).all()


def list_events(session: Session, job_id: str, *, after: int | None, oldest_first: bool, limit: int) -> Sequence[EventRow]:
    """A page of a job's events, past the event `after` in the order asked for."""
    query = select(EventRow).where(EventRow.job_id == job_id).limit(limit)
    if oldest_first:
        query = query.order_by(EventRow.id)
        return session.scalars(query if after is None else query.where(EventRow.id > after)).all()
    query = query.order_by(EventRow.id.desc())
    return session.scalars(query if after is None else query.where(EventRow.id < after)).all()


def newest_events(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """The number of the newest event of each of these jobs, 0 where all are forgotten; jobs that were deleted are left out."""
    newest: dict[str, int] = {}
    # Asked job by job: a group for each would read all their events, and a job that runs for a day has 80,000.
    of_job = select(func.max(EventRow.id)).where(EventRow.job_id == JobRow.id).scalar_subquery()
    for ids in chunked(job_ids):
        newest |= dict(session.execute(select(JobRow.id, func.coalesce(of_job, 0)).where(JobRow.id.in_(ids))).all())
    return newest
