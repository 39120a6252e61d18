"""Rounds over the database that find what fell silent: workers that died, bells that nobody heard, jobs that never end.

Each row is a transaction of its own, so that one which cannot be mended keeps nobody else from being helped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.db import database_now
from app.jobs import states
from app.jobs.leases import expire_lease
from app.jobs.tables import JobRow, StepRow
from app.outages import is_outage
from app.webhooks.emit import announce_delivery
from app.webhooks.tables import DeliveryRow
from workers.metrics import LEASES_EXPIRED

log = structlog.get_logger()

BATCH = 100
# So many failures in a row are not the rows' fault.
OUTAGE_AFTER = 3


def reap(sessions: sessionmaker[Session]) -> int:
    """Take every step whose lease ran out away from its worker. Returns how many."""
    with sessions.begin() as session:
        now = database_now(session)
        overdue = session.scalars(
            select(StepRow.id)
            .where(StepRow.status == "running", StepRow.lease_expires_at <= now)
            .order_by(StepRow.lease_expires_at)
            .limit(BATCH)
        ).all()

    def take(session: Session, step_id: str) -> bool:
        taken = expire_lease(session, step_id)
        if taken:
            LEASES_EXPIRED.inc()
            log.warning("step.lease_expired", step_id=step_id)
        return taken

    return _each(sessions, overdue, take)


def ring_for_ready_steps(sessions: sessionmaker[Session]) -> int:
    """Announce ready steps whose pause is over, and once more those that nobody claimed. Returns how many."""
    with sessions.begin() as session:
        due = (StepRow.status == "ready", StepRow.ring_again_at <= database_now(session))
        waiting = session.scalars(select(StepRow.id).where(*due).order_by(StepRow.ring_again_at).limit(BATCH)).all()

    def ring_again(session: Session, step_id: str) -> bool:
        step = session.scalars(select(StepRow).where(StepRow.id == step_id, *due).with_for_update(skip_locked=True)).one_or_none()
        if step is not None:
            states.announce(session, step, now=database_now(session))
        return step is not None

    return _each(sessions, waiting, ring_again)


def ring_for_due_deliveries(sessions: sessionmaker[Session]) -> int:
    """Announce webhook deliveries whose next attempt is due. Returns how many."""
    with sessions.begin() as session:
        due = (DeliveryRow.status == "pending", DeliveryRow.ring_again_at <= database_now(session))
        waiting = session.scalars(select(DeliveryRow.id).where(*due).order_by(DeliveryRow.ring_again_at).limit(BATCH)).all()

    def ring_again(session: Session, delivery_id: str) -> bool:
        found = select(DeliveryRow).where(DeliveryRow.id == delivery_id, *due).with_for_update(skip_locked=True)
        delivery = session.scalars(found).one_or_none()
        if delivery is not None:
            announce_delivery(session, delivery, now=database_now(session))
        return delivery is not None

    return _each(sessions, waiting, ring_again)


def end_overdue_jobs(sessions: sessionmaker[Session]) -> int:
    """Fail every running job that has run for longer than its tenant's limit allows, and cancel every job whose workers were told to let
    go and have not. Returns how many."""
    with sessions.begin() as session:
        late = (JobRow.status.in_(("running", "cancelling")), JobRow.deadline_at <= database_now(session))
        overdue = session.scalars(select(JobRow.id).where(*late).order_by(JobRow.deadline_at).limit(BATCH)).all()
    return _each(sessions, overdue, _end_overdue)


def _end_overdue(session: Session, job_id: str) -> bool:
    job = states.lock_job(session, job_id)
    now = database_now(session)
    if job is None or job.status not in ("running", "cancelling") or job.deadline_at is None or job.deadline_at > now:
        return False
    if job.status == "cancelling":
        states.end_cancelling(session, job, now=now)
        log.warning("job.not_let_go", job_id=job_id)
        return True
    detail = (
        f"A job of yours may run for {job.timeout_seconds} s (`job_seconds` of /v1/usage). Make it smaller, or ask the operator for more."
    )
    states.fail_job(session, job, states.problem("deadline-exceeded", "The job ran out of time", detail), now=now)
    log.warning("job.deadline_exceeded", job_id=job_id)
    return True


def _each(sessions: sessionmaker[Session], ids: Sequence[str], mend: Callable[[Session, str], bool]) -> int:
    """`mend` each row that needs it. Returns of how many it was true.

    Raises:
        sqlalchemy.exc.OperationalError: the database is away; the rest waits for the next round.
    """
    mended = outages = 0
    for id in ids:
        try:
            with sessions.begin() as session:
                mended += mend(session, id)
        except Exception as error:
            outages = outages + 1 if is_outage(error) else 0
            if outages == OUTAGE_AFTER:
                raise
            log.exception("reaper.row_left", row=id, round=mend.__name__)
        else:
            outages = 0
    return mended
