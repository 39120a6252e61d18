"""A worker's hold on a step: taken by one conditional update, kept by a heartbeat, and checked by every write.

Each function is one short transaction of the caller's. `LeaseLost` means that the step is no longer this worker's: it
stops, and nothing it did counts.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.db import database_now
from app.jobs import attempts, events, inspections, states
from app.jobs.spared import Spared
from app.jobs.tables import JobRow, StepRow

RETRY_AFTER = timedelta(seconds=2)
RETRY_AT_MOST = timedelta(minutes=5)

# What a step waits for between two looks at whether an outage is over, and for how long an outage is not held against it.
OUTAGE_RETRY_AT_MOST = timedelta(seconds=30)
OUTAGE_PATIENCE = timedelta(minutes=30)
# Yet no step goes on for ever: one that always ends by an "outage" has a fault of its own.
OUTAGES_AT_MOST = 200

# What a worker had no room for is shown to the next one after this.
PASSED_BY_PAUSE = timedelta(seconds=10)


class LeaseLost(Exception):
    """Another worker has the step, or nobody needs it any more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Proof that one worker holds one step. `attempt` counts from 1."""

    step_id: str
    job_id: str | None
    token: str
    attempt: int


def claim_step(session: Session, step_id: str, *, worker: str, lease_seconds: float) -> Lease | None:
    """Take a ready step, or None: somebody else has it, its pause is not over, or it is no longer wanted."""
    step = session.get(StepRow, step_id, populate_existing=True)
    if step is None or step.status != "ready":
        return None
    job = None
    if step.job_id is not None:
        job = states.lock_job(session, step.job_id)
        if job is None or job.status not in ("queued", "running"):
            return None
    now = database_now(session)
    token = secrets.token_hex(16)
    claimed = session.execute(
        update(StepRow)
        .where(StepRow.id == step_id, StepRow.status == "ready", or_(StepRow.not_before.is_(None), StepRow.not_before <= now))
        .values(
            status="running",
            attempt=StepRow.attempt + 1,
            lease_token=token,
            lease_expires_at=now + timedelta(seconds=lease_seconds),
            ring_again_at=None,
            rings=0,
            worker=worker,
            started_at=now,
        )
        .execution_options(synchronize_session=False)
    )
    if claimed.rowcount != 1:  # type: ignore[attr-defined]
        return None
    session.refresh(step)
    if step.passed_by:
        step.error = Spared.of(step).attach({})
    attempts.begin_attempt(session, step, now=now)
    if job is not None:
        states.start_job(session, job, step.kind, now=now)
    return Lease(step.id, step.job_id, token, step.attempt)


def pass_step_by(session: Session, step_id: str, why: dict[str, Any]) -> bool:
    """Leave a ready step to another worker, because this one has no room for it. It is announced again after a pause; `why` is kept as
    its error until then, and told once in the job's events. False: it was not to be had anyway.
    """
    step = session.get(StepRow, step_id)
    job = states.lock_job(session, step.job_id) if step is not None and step.job_id is not None else None
    if step is None or job is None or job.status not in ("queued", "running"):
        return False
    session.refresh(step)
    if step.status != "ready":
        return False
    now = database_now(session)
    told = step.passed_by
    step.error = Spared.of(step).attach(why)
    step.ring_again_at = now + PASSED_BY_PAUSE
    if not told:
        events.record(session, job, "job.waiting", {"stage": step.kind, "shard": step.shard, "detail": why["detail"]}, now=now)
    return True


def renew_lease(session: Session, lease: Lease, *, lease_seconds: float) -> bool:
    """Keep the step for `lease_seconds` more. True: its job is being cancelled, so stop and say so by `drop_step`.

    Raises:
        LeaseLost: it is no longer ours.
    """
    _guarded_update(session, lease, lease_expires_at=database_now(session) + timedelta(seconds=lease_seconds))
    return _is_cancelling(session, lease)


def save_progress(session: Session, lease: Lease, progress: dict[str, Any]) -> None:
    """Note how far the step is: `{done, total, unit, per_second}`.

    Raises:
        LeaseLost: it is no longer ours.
    """
    finished = progress["done"] >= progress["total"]
    # The parts of a job report side by side: they wait for one another's lock on it only when there is something to tell of it.
    telling = lease.job_id is not None and (finished or events.progress_due(session, lease.job_id, now=database_now(session)))
    job = _lock(session, lease) if telling else None
    _guarded_update(session, lease, progress=progress)
    if job is not None and job.status == "running":
        events.record_progress(session, job, finished=finished, now=database_now(session))


def save_metrics(session: Session, lease: Lease, stage: str, shard: int, values: dict[str, float | None]) -> None:
    """Add measurements to the job's events.

    Raises:
        LeaseLost: it is no longer ours.
    """
    job = _lock(session, lease)
    _held(session, lease)
    if job is not None:
        events.record(session, job, "job.metrics", {"stage": stage, "shard": shard, "values": values}, now=database_now(session))


def save_checkpoint(session: Session, lease: Lease, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Name the files from which a next attempt resumes. Returns the manifest that this one replaces.

    Raises:
        LeaseLost: it is no longer ours.
    """
    replaced = _held(session, lease).checkpoint
    _guarded_update(session, lease, checkpoint=checkpoint)
    return replaced


def complete_step(session: Session, lease: Lease, *, result: dict[str, Any], outputs: dict[str, Any]) -> bool:
    """The step is done and these outputs count. Opens the next stage, or ends the job with `result` if this was its last step.

    Returns:
        False when the job is being cancelled: then nothing counts.

    Raises:
        LeaseLost: it is no longer ours; whatever was uploaded counts for nothing.
    """
    job = _lock(session, lease)
    if job is not None and job.status == "cancelling":
        drop_step(session, lease)
        return False
    step = _release(session, lease, status="succeeded", result=result, outputs=outputs, error=None)
    if job is not None:
        states.advance_job(session, job, step.position, result=result, now=database_now(session))
    return True


def fail_step(session: Session, lease: Lease, error: dict[str, Any], *, final: bool) -> None:
    """The attempt came to nothing. The step is tried again after a pause, unless `final` or its attempts are used up; then its job fails.

    Raises:
        LeaseLost: it is no longer ours.
    """
    job = _lock(session, lease)
    step = _held(session, lease)
    if _end_cancelled(session, lease, job, error):
        return
    if final:
        step = _release(session, lease, status="failed", error=error)
        end_for_good(session, job, step, error)
        return
    spared = replace(Spared.of(step), in_row=0, since=None)
    _use_up(session, lease, job, step, spared.attach(error), after=_pause(step.attempt - spared.attempts, RETRY_AT_MOST))


def postpone_step(session: Session, lease: Lease, error: dict[str, Any]) -> None:
    """Something that is no part of the step was away: a database, a store, room on a disk. It is tried again after a pause.

    For `OUTAGE_PATIENCE` none of these attempts is held against the step. From then on, each is a failure like any other.

    Raises:
        LeaseLost: it is no longer ours.
    """
    job = _lock(session, lease)
    step = _held(session, lease)
    if _end_cancelled(session, lease, job, error):
        return
    now = database_now(session)
    spared = Spared.of(step).one_outage_more(step, now)
    pause = _pause(spared.in_row, OUTAGE_RETRY_AT_MOST)
    if spared.outages > OUTAGES_AT_MOST or spared.has_lasted(now) > OUTAGE_PATIENCE:
        not_spared = replace(spared, outages=spared.outages - 1)
        _use_up(session, lease, job, step, not_spared.attach(error), after=pause)
    else:
        _retry(session, lease, job, spared.attach(error), after=pause, max_attempts=step.max_attempts + 1)


def hand_back_step(session: Session, lease: Lease) -> None:
    """This worker has to go, through no fault of the step: anyone may have it at once, and the attempt is not held against it.

    Raises:
        LeaseLost: it is no longer ours.
    """
    job = _lock(session, lease)
    now = database_now(session)
    if job is not None and job.status == "cancelling":
        drop_step(session, lease)
        return
    step = _held(session, lease)
    spared = Spared.of(step)
    spared = replace(spared, hand_backs=spared.hand_backs + 1)
    step = _release(session, lease, status="ready", error=spared.attach({}), max_attempts=step.max_attempts + 1)
    states.announce(session, step, now=now)


def drop_step(session: Session, lease: Lease) -> None:
    """The worker has stopped because the job is being cancelled.

    Raises:
        LeaseLost: it is no longer ours.
    """
    job = _lock(session, lease)
    _release(session, lease, status="cancelled")
    if job is not None:
        states.settle_cancelling(session, job, now=database_now(session))


def expire_lease(session: Session, step_id: str) -> bool:
    """Take a step from a worker that fell silent. False: its lease is not over, or nobody holds it."""
    found = session.get(StepRow, step_id, populate_existing=True)
    if found is None or found.lease_token is None:
        return False
    lease = Lease(found.id, found.job_id, found.lease_token, found.attempt)
    job = _lock(session, lease)
    now = database_now(session)
    still = (StepRow.id == step_id, StepRow.lease_token == lease.token, StepRow.status == "running", StepRow.lease_expires_at <= now)
    step = session.scalars(select(StepRow).where(*still).with_for_update().execution_options(populate_existing=True)).one_or_none()
    if step is None:
        return False  # renewed or released while we looked
    if job is not None and job.status == "cancelling":
        drop_step(session, lease)
        return True
    detail = "The worker fell silent: it was killed, or lost its connection to the database."
    error = states.problem(attempts.WORKER_LOST, "The worker fell silent", detail)
    spared = Spared.of(step)
    # Whoever kills its workers must not go on for ever, so silence has as many attempts as failure has, but its own.
    if spared.losses + 1 < step.max_attempts - spared.attempts:
        spared = replace(spared, losses=spared.losses + 1)
        _retry(session, lease, job, spared.attach(error), after=timedelta(), max_attempts=step.max_attempts + 1)
    else:
        step = _release(session, lease, status="failed", error=error)
        end_for_good(session, job, step, used_up(step, detail))
    return True


def used_up(step: StepRow, last: str) -> dict[str, Any]:
    """The error of a step that may not be tried again."""
    shard = f" (part {step.shard + 1} of {step.shards})" if step.shards > 1 else ""
    return states.problem(
        "step-failed", "A step failed too often", f"The step {step.kind}{shard} failed {step.attempt} times. The last time: {last}"
    )


def end_for_good(session: Session, job: JobRow | None, step: StepRow, error: dict[str, Any]) -> None:
    """A step is given up: its job fails, or the model or data set that it inspected is rejected."""
    if job is not None:
        states.fail_job(session, job, error, now=database_now(session))
    else:
        inspections.give_up(session, step, error)


def _end_cancelled(session: Session, lease: Lease, job: JobRow | None, error: dict[str, Any]) -> bool:
    """Of a job that is being cancelled, no step is tried again."""
    if job is None or job.status != "cancelling":
        return False
    _release(session, lease, status="cancelled", error=error)
    states.settle_cancelling(session, job, now=database_now(session))
    return True


def _use_up(session: Session, lease: Lease, job: JobRow | None, step: StepRow, error: dict[str, Any], *, after: timedelta) -> None:
    """The attempt counts: another one after the pause, or the end if it was the last."""
    if step.attempt < step.max_attempts:
        _retry(session, lease, job, error, after=after)
        return
    step = _release(session, lease, status="failed", error=error)
    end_for_good(session, job, step, used_up(step, error["detail"]))


def _retry(session: Session, lease: Lease, job: JobRow | None, error: dict[str, Any], *, after: timedelta, **values: Any) -> None:
    """Let go of the step for somebody to take it once the pause is over, and tell the job's events why."""
    now = database_now(session)
    step = _release(session, lease, status="ready", error=error, not_before=now + after, **values)
    states.announce(session, step, now=now)
    if job is None:
        return
    data = {
        "stage": step.kind,
        "shard": step.shard,
        "attempt": step.attempt,
        "max_attempts": step.max_attempts,
        "detail": error["detail"],
    }
    events.record(session, job, "job.retrying", data, now=now)


def _pause(failures: int, at_most: timedelta) -> timedelta:
    """Twice as long after each failure in a row (from 1)."""
    doublings = min(max(failures - 1, 0), 10)
    return min(RETRY_AFTER * (1 << doublings), at_most)


def _lock(session: Session, lease: Lease) -> JobRow | None:
    """The job of the step, locked; None for an inspection, which has none.

    Raises:
        LeaseLost: the job was deleted.
    """
    if lease.job_id is None:
        return None
    job = states.lock_job(session, lease.job_id)
    if job is None:
        raise LeaseLost(lease.step_id)
    return job


def lock_step(session: Session, lease: Lease) -> StepRow:
    """The step, which nobody else takes or changes until the transaction ends.

    Raises:
        LeaseLost: it is no longer ours.
    """
    return _held(session, lease, lock=True)


def _held(session: Session, lease: Lease, *, lock: bool = False) -> StepRow:
    step = session.get(StepRow, lease.step_id, populate_existing=True, with_for_update=lock or None)
    if step is None or step.lease_token != lease.token or step.status != "running":
        raise LeaseLost(lease.step_id)
    return step


def _guarded_update(session: Session, lease: Lease, **values: Any) -> None:
    session.flush()
    updated = session.execute(
        update(StepRow)
        .where(StepRow.id == lease.step_id, StepRow.lease_token == lease.token, StepRow.status == "running")
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if updated.rowcount != 1:  # type: ignore[attr-defined]
        raise LeaseLost(lease.step_id)


def _release(session: Session, lease: Lease, **values: Any) -> StepRow:
    """Let go of the step in the state that `values` describe, and return it."""
    now = database_now(session)
    if values["status"] != "ready":
        values["finished_at"] = now
    _guarded_update(session, lease, lease_token=None, lease_expires_at=None, **values)
    attempts.end_attempt(session, lease.step_id, lease.attempt, status=values["status"], error=Spared.detach(values.get("error")), now=now)
    step = session.get(StepRow, lease.step_id, populate_existing=True)
    if step is None:
        raise LeaseLost(lease.step_id)
    return step


def _is_cancelling(session: Session, lease: Lease) -> bool:
    if lease.job_id is None:
        return False
    job = session.get(JobRow, lease.job_id, populate_existing=True)
    return job is not None and job.status == "cancelling"
