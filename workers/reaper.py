"""Rounds over the database that find what fell silent: workers that died, bells that nobody heard."""

from __future__ import annotations

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.db import database_now
from app.jobs.leases import expire_lease
from app.jobs.states import announce
from app.jobs.tables import StepRow
from app.webhooks.emit import announce_delivery
from app.webhooks.tables import DeliveryRow
from workers.metrics import LEASES_EXPIRED

log = structlog.get_logger()

BATCH = 100


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
    taken = 0
    for step_id in overdue:
        # One transaction each: a job's row is locked for one step at a time.
        with sessions.begin() as session:
            if expire_lease(session, step_id):
                taken += 1
                LEASES_EXPIRED.inc()
                log.warning("step.lease_expired", step_id=step_id)
    return taken


def ring_for_ready_steps(sessions: sessionmaker[Session]) -> int:
    """Announce ready steps whose pause is over, and once more those that nobody claimed. Returns how many."""
    with sessions.begin() as session:
        now = database_now(session)
        waiting = session.scalars(
            select(StepRow)
            .where(StepRow.status == "ready", StepRow.ring_again_at <= now)
            .order_by(StepRow.ring_again_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        for step in waiting:
            announce(session, step, now=now)
        return len(waiting)


def ring_for_due_deliveries(sessions: sessionmaker[Session]) -> int:
    """Announce webhook deliveries whose next attempt is due. Returns how many."""
    with sessions.begin() as session:
        now = database_now(session)
        due = session.scalars(
            select(DeliveryRow)
            .where(DeliveryRow.status == "pending", DeliveryRow.ring_again_at <= now)
            .order_by(DeliveryRow.ring_again_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        for delivery in due:
            announce_delivery(session, delivery, now=now)
        return len(due)
