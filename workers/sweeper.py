"""Deletes stored bytes that nothing names any more: what attempts left that failed, checkpoints, and what deleted rows left behind.

A sweep counts as done only when every object is gone; what could not be deleted is tried again in the next round.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from sqlalchemy import and_, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.blobs.tables import BlobRow
from app.datasets.tables import DatasetRow
from app.db import chunked, database_now
from app.jobs.leases import Lease
from app.jobs.outbox import ring
from app.jobs.states import FINAL
from app.jobs.tables import JobRow, OutboxRow, StepRow
from app.models.tables import ModelRow
from app.outages import cause_of
from workers.checkpoints import delete_quietly
from workers.context import Context

log = structlog.get_logger()

BATCH = 50
# A worker that lost its lease stops within seconds; what it still uploaded then is there by now.
GRACE = timedelta(minutes=15)
OVER = FINAL | {"ready", "rejected"}


class NotSwept(Exception):
    """Some objects could not be deleted."""


def sweep(context: Context) -> int:
    """Sweep jobs that have been over for a while, each once. Returns the number of objects deleted."""
    deleted = 0
    for job_id in _unswept(context):
        try:
            deleted += sweep_job(context, job_id)
        except Exception as error:  # noqa: BLE001  (whatever the store raises; the other jobs have theirs to be swept)
            log.warning("job.not_swept", job_id=job_id, error=f"{type(error).__name__}: {error}")
    return deleted


def sweep_job(context: Context, job_id: str) -> int:
    """Delete everything under the job's prefix that neither a succeeded step nor a blob names. Returns the number of objects deleted.

    Raises:
        NotSwept: not everything could be deleted; the job stays to be swept.
    """
    deleted = _delete_unnamed(context, job_id, _prefix_of(job_id))
    with context.sessions.begin() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(swept_at=database_now(session)))
    return deleted


def ask_for_sweep(context: Context, lease: Lease) -> None:
    """A worker that lost its lease may have stored something when its job or inspection was over and swept: have it swept once more."""
    try:
        with context.sessions.begin() as session:
            step = session.get(StepRow, lease.step_id)
            if step is not None:  # else it was deleted, which asked for a sweep too
                ring(session, "sweep", "io", step.subject_id, now=database_now(session))
    except SQLAlchemyError as error:
        log.warning("sweep.not_asked_for", step_id=lease.step_id, error=cause_of(error))


def sweep_after_deletions(context: Context) -> int:
    """Sweep up after deleted jobs, models, data sets and uploads: at once, and again when no late worker can have added anything.

    After those that are still there, because they were inspected or had a late worker, only then; with that the message that asks for it
    is forgotten. Returns the number of objects deleted.
    """
    with context.reads() as session:
        asked = session.execute(select(OutboxRow.id, OutboxRow.payload, OutboxRow.created_at).where(OutboxRow.topic == "sweep")).all()
        over = database_now(session) - GRACE
    deleted = 0
    for number, payload, created_at in asked:
        last = created_at <= over
        if payload.get("swept") and not last:
            continue
        try:
            deleted += sweep_left_over(context, payload["id"], last=last)
        except Exception as error:  # noqa: BLE001  (whatever the store raises)
            log.warning("deleted.not_swept", id=payload["id"], error=f"{type(error).__name__}: {error}")
            continue
        with context.sessions.begin() as session:
            row = session.get(OutboxRow, number)
            if row is not None and last:
                session.delete(row)
            elif row is not None:
                row.payload = {**payload, "swept": True}
    return deleted


def sweep_left_over(context: Context, id: str, *, last: bool) -> int:
    """Delete what a job, model or data set that is gone has stored, except for what became part of something else.

    id: of an upload it is the key.
    last: nobody can be storing anything for it any more. Then that goes too which nothing names of one that is there, but is over.

    Raises:
        NotSwept: not everything could be deleted.
    """
    with context.sessions() as session:
        owner = session.get(JobRow, id) or session.get(ModelRow, id) or session.get(DatasetRow, id)
    if owner is not None and not (last and owner.status in OVER):
        return 0
    return _delete_unnamed(context, id, _prefix_of(id))


def _prefix_of(id: str) -> str:
    if "/" in id:
        return id
    return f"jobs/{id}/" if id.startswith("job_") else f"inspections/{id}/"


def _delete_unnamed(context: Context, id: str, prefix: str) -> int:
    stored = set(context.store.keys(prefix))
    with context.sessions() as session:
        orphans = stored - _named_keys(session, id, stored)
    left = delete_quietly(context.store, orphans)
    if orphans:
        log.info("objects.swept", id=id, objects=len(orphans) - left)
    if left:
        raise NotSwept(f"{left} of {len(orphans)} objects under {prefix} could not be deleted")
    return len(orphans)


def _unswept(context: Context) -> Iterator[str]:
    """Oldest first. Those that stay unswept are passed by, so that they never keep the rest waiting."""
    last: tuple[datetime, str] | None = None
    while True:
        with context.reads() as session:
            before = database_now(session) - GRACE
            over = select(JobRow.finished_at, JobRow.id).where(
                JobRow.swept_at.is_(None), JobRow.status.in_(FINAL), JobRow.finished_at < before
            )
            if last is not None:
                over = over.where(or_(JobRow.finished_at > last[0], and_(JobRow.finished_at == last[0], JobRow.id > last[1])))
            found = session.execute(over.order_by(JobRow.finished_at, JobRow.id).limit(BATCH)).all()
        for finished_at, job_id in found:
            if finished_at is not None:
                last = (finished_at, job_id)
            yield job_id
        if len(found) < BATCH:
            return


def _named_keys(session: Session, id: str, stored: set[str]) -> set[str]:
    # Blobs are deleted by their own housekeeping, once nothing refers to them. Asked by key, which has an index.
    named = {key for keys in chunked(sorted(stored)) for key in session.scalars(select(BlobRow.key).where(BlobRow.key.in_(keys)))}
    for outputs in session.scalars(select(StepRow.outputs).where(StepRow.subject_id == id, StepRow.status == "succeeded")):
        named |= {file["key"] for file in (outputs or {}).get("files", [])}
    return named
