"""The SQL of jobs that requests need, scoped by tenant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from app.jobs.states import UNFINISHED
from app.jobs.tables import EventRow, JobRow, StepRow
from app.repository import count_owned


def steps_by_job(session: Session, job_ids: Sequence[str]) -> Mapping[str, list[StepRow]]:
    """The steps of these jobs, without their outputs and results, which may be long."""
    lean = (defer(StepRow.outputs), defer(StepRow.result), defer(StepRow.checkpoint))
    found: dict[str, list[StepRow]] = defaultdict(list)
    for step in session.scalars(select(StepRow).where(StepRow.job_id.in_(job_ids)).options(*lean)):
        if step.job_id is not None:
            found[step.job_id].append(step)
    return found


def count_unfinished(session: Session, tenant_id: str) -> int:
    return count_owned(session, JobRow, tenant_id, JobRow.status.in_(UNFINISHED))


def unfinished_jobs_reading(session: Session, input_id: str) -> Sequence[str]:
    """Ids of the jobs that still need this model or data set."""
    reads = (JobRow.model_id == input_id) | (JobRow.dataset_id == input_id)
    evaluates = (JobRow.triggered_dataset_id == input_id) | (JobRow.clean_dataset_id == input_id)
    return session.scalars(select(JobRow.id).where(JobRow.status.in_(UNFINISHED), reads | evaluates).order_by(JobRow.id)).all()


def list_events(session: Session, job_id: str, *, after: int | None, oldest_first: bool, limit: int) -> Sequence[EventRow]:
    """A page of a job's events, past the event `after` in the order asked for."""
    query = select(EventRow).where(EventRow.job_id == job_id).limit(limit)
    if oldest_first:
        query = query.order_by(EventRow.id)
        return session.scalars(query if after is None else query.where(EventRow.id > after)).all()
    query = query.order_by(EventRow.id.desc())
    return session.scalars(query if after is None else query.where(EventRow.id < after)).all()


def output_keys(session: Session, job_id: str) -> set[str]:
    """Where everything lies that the job's steps have stored and named."""
    keys: set[str] = set()
    for outputs, checkpoint in session.execute(select(StepRow.outputs, StepRow.checkpoint).where(StepRow.job_id == job_id)):
        for manifest in (outputs, checkpoint):
            keys |= {file["key"] for file in (manifest or {}).get("files", [])}
    return keys
