"""Every change of a job's state goes through here, and none goes backwards.

A change writes the row, its event, the webhook messages and the bells for workers into one transaction, which is the
caller's to commit. Whoever changes a job or its steps locks the job's row first (`lock_job`): two shards that finish
together see one another, and a claim never crosses a cancellation.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.db import database_now
from app.ids import new_id
from app.jobs import events
from app.jobs.attempts import cancel_attempts
from app.jobs.outbox import ring
from app.jobs.plan import PlannedStep, Queue
from app.jobs.tables import JobRow, StepRow
from app.repository import owned
from app.tracing import current_carrier, travelling
from app.webhooks.tables import WebhookRow

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
FinalStatus = Literal["succeeded", "failed", "cancelled"]
FINAL: frozenset[str] = frozenset(get_args(FinalStatus))
UNFINISHED = ("queued", "running", "cancelling")
UNFINISHED_STEP = ("blocked", "ready", "running")

# A ready step that nobody claimed is announced again after a minute, then ever less often, so that a long queue does
# not fill the broker with repetitions.
RING_AGAIN_AFTER = timedelta(minutes=1)
RING_AGAIN_AT_MOST = timedelta(minutes=15)

# A worker of a job that is being cancelled may take this long to let go. It leaves the relay, which looks once a second, time to have
# the job cancelled within five seconds.
LETTING_GO = timedelta(seconds=3)


def problem(type: str, title: str, detail: str) -> dict[str, str]:
    """The `error` of a job or step, in the terms of the API's own errors."""
    return {"type": f"urn:lustral:problem:{type}", "title": title, "detail": detail}


def lock_job(session: Session, job_id: str) -> JobRow | None:
    """The job, fresh, and nobody else's to change until this transaction ends."""
    return session.get(JobRow, job_id, with_for_update=True, populate_existing=True)


def open_job(session: Session, job: JobRow, plan: Iterable[PlannedStep], *, max_attempts: int, listener: WebhookRow | None = None) -> None:
    """Add a new job with its steps, all blocked: `inspections.begin_or_fail` opens the first stage once the inputs are ready.

    listener: the job's own webhook, which is to hear of its very first event.
    """
    job.created_at, job.status, job.stage = database_now(session), "queued", None
    session.add(job)
    session.flush()
    if listener is not None:
        session.add(listener)
    session.add_all(_new_step(job, planned, max_attempts=max_attempts) for planned in plan)
    session.flush()
    events.record_status(session, job, now=job.created_at)


def release_first_stage(session: Session, job: JobRow) -> None:
    """The inputs are ready, so the work may begin."""
    if job.status == "queued":
        _release(session, job, position=0, now=database_now(session))


def start_job(session: Session, job: JobRow, stage: str, *, now: datetime) -> None:
    """A worker has claimed a step of `stage`."""
    entered = job.stage != stage
    job.stage = stage
    if job.status == "queued":
        job.status, job.started_at = "running", now
        job.deadline_at = None if job.timeout_seconds is None else now + timedelta(seconds=job.timeout_seconds)
        events.record_status(session, job, now=now)
    if entered:
        job.progress_event_at = None
        events.record(session, job, "job.stage", {"stage": stage}, now=now)


def advance_job(session: Session, job: JobRow, position: int, *, result: dict[str, Any] | None, now: datetime) -> None:
    """A step at `position` succeeded: open the next stage once its whole stage has, or end the job after the last one.

    result: becomes the job's when this step was its last.
    """
    # Asked of the database: reading a thousand steps under the job's lock, once for each, is what large jobs would wait for.
    session.flush()
    if _has_step(session, job, StepRow.position == position, StepRow.status != "succeeded"):
        return
    if _has_step(session, job, StepRow.position > position):
        _release(session, job, position=position + 1, now=now)
        return
    job.result = result
    _finish(session, job, "succeeded", now=now)


def fail_job(session: Session, job: JobRow, error: dict[str, Any], *, now: datetime) -> None:
    """End the job with `error`. Running steps lose their leases, which stops their workers."""
    if job.status in FINAL:
        return
    _cancel_steps(session, job, UNFINISHED_STEP, now=now)
    job.error = error
    _finish(session, job, "failed", now=now)


def cancel_job(session: Session, job: JobRow) -> None:
    """Take back all work that has not begun; the job is `cancelled` as soon as no worker is on it any more, or by `end_cancelling`.
    Idempotent.
    """
    if job.status in FINAL or job.status == "cancelling":
        return
    now = database_now(session)
    _cancel_steps(session, job, ("blocked", "ready"), now=now)
    job.status = "cancelling"
    events.record_status(session, job, now=now)
    settle_cancelling(session, job, now=now)
    if job.status == "cancelling":
        job.deadline_at = now + LETTING_GO


def settle_cancelling(session: Session, job: JobRow, *, now: datetime) -> None:
    """End a job that is being cancelled if its last running step has stopped."""
    if job.status == "cancelling" and not any(step.status == "running" for step in events.steps_of(session, job)):
        _finish(session, job, "cancelled", now=now)


def end_cancelling(session: Session, job: JobRow, *, now: datetime) -> None:
    """Take the steps of a job that is being cancelled from workers that have not let go: dead or busy, their writes count no more."""
    if job.status == "cancelling":
        _cancel_steps(session, job, ("running",), now=now)
        _finish(session, job, "cancelled", now=now)


def announce(session: Session, step: StepRow, *, now: datetime) -> None:
    """Ring for a ready step, now or when its pause is over, and note when to ring again."""
    if step.not_before is not None and step.not_before > now:
        step.ring_again_at = step.not_before
        return
    ring(session, "run_step", _queue(step), step.id, now=now, carrier=travelling(step.trace or {}))
    step.ring_again_at = now + min(RING_AGAIN_AFTER * 2**step.rings, RING_AGAIN_AT_MOST)
    step.rings = min(step.rings + 1, 10)


def waiting_jobs(session: Session, tenant_id: str, input_id: str) -> list[str]:
    """The tenant's jobs that have not begun and read this model or data set, in the order in which they are to be locked."""
    reads = (JobRow.model_id == input_id) | (JobRow.dataset_id == input_id)
    evaluates = (JobRow.triggered_dataset_id == input_id) | (JobRow.clean_dataset_id == input_id)
    waiting = select(JobRow.id).where(owned(JobRow, tenant_id), JobRow.status == "queued", reads | evaluates)
    return list(session.scalars(waiting.order_by(JobRow.id)))


def _has_step(session: Session, job: JobRow, *where: ColumnElement[bool]) -> bool:
    return session.scalars(select(StepRow.id).where(StepRow.job_id == job.id, *where).limit(1)).first() is not None


def _new_step(job: JobRow, planned: PlannedStep, *, max_attempts: int) -> StepRow:
    return StepRow(
        id=new_id("step"),
        tenant_id=job.tenant_id,
        job_id=job.id,
        subject_id=job.id,
        kind=planned.kind,
        shard=planned.shard,
        shards=planned.shards,
        position=planned.position,
        queue=planned.queue,
        status="blocked",
        attempt=0,
        rings=0,
        max_attempts=max_attempts,
        trace=current_carrier() or None,
        created_at=job.created_at,
    )


def _release(session: Session, job: JobRow, *, position: int, now: datetime) -> None:
    for step in events.steps_of(session, job):
        if step.position == position and step.status == "blocked":
            step.status = "ready"
            announce(session, step, now=now)


def _finish(session: Session, job: JobRow, status: FinalStatus, *, now: datetime) -> None:
    job.status, job.finished_at = status, now
    events.record_status(session, job, now=now)


def _cancel_steps(session: Session, job: JobRow, statuses: tuple[str, ...], *, now: datetime) -> None:
    session.flush()
    session.execute(
        update(StepRow)
        .where(StepRow.job_id == job.id, StepRow.status.in_(statuses))
        .values(status="cancelled", lease_token=None, lease_expires_at=None, ring_again_at=None, finished_at=now)
        .execution_options(synchronize_session="fetch")
    )
    cancel_attempts(session, job.id, now=now)


def _queue(step: StepRow) -> Queue:
    return "gpu" if step.queue == "gpu" else "io"
