"""Owe a message to every endpoint that wants it, in the transaction of the change it tells of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.ids import new_id
from app.jobs.outbox import ring
from app.repository import owned
from app.webhooks.tables import DeliveryRow, WebhookRow

BODY_LIMIT = 20_000
# The bell may be lost; a message that nobody took up is announced again after this.
RING_AGAIN_AFTER = timedelta(minutes=1)
# Told only to those who name it: a running job has something to say every few seconds.
OPT_IN = frozenset({"job.progress"})


def emit(session: Session, *, tenant_id: str, type: str, data: dict[str, Any], now: datetime, job_id: str | None = None) -> None:
    """Store one delivery for each enabled endpoint that wants `type`, and ring for a worker.

    An endpoint made from a job's own `webhook_url` hears of that job only.
    """
    listens = or_(WebhookRow.job_id.is_(None), WebhookRow.job_id == job_id) if job_id else WebhookRow.job_id.is_(None)
    wanted = select(WebhookRow).where(owned(WebhookRow, tenant_id), WebhookRow.enabled.is_(True), listens)
    # Locked as the delivery's reference to it will be: one that is deleted in between would take the change itself back with it.
    # Whoever locks an endpoint to change it locks no job afterwards.
    for endpoint in session.scalars(wanted.with_for_update(read=True, key_share=True)):
        if wants(endpoint.events, type):
            owe(session, endpoint, type=type, data=data, now=now)


def owe(session: Session, endpoint: WebhookRow, *, type: str, data: dict[str, Any], now: datetime) -> DeliveryRow:
    """Store one delivery to one endpoint."""
    delivery = DeliveryRow(
        id=new_id("msg"),
        tenant_id=endpoint.tenant_id,
        webhook_id=endpoint.id,
        event_type=type,
        body=_body(type, data, now),
        status="pending",
        attempts=0,
        created_at=now,
    )
    session.add(delivery)
    attempt_now(session, delivery, now=now)
    return delivery


def attempt_now(session: Session, delivery: DeliveryRow, *, now: datetime) -> None:
    """Have a message handed over (again) as soon as a worker is free, whatever became of it before.

    An attempt that is under way is noted when it ends, and settles nothing any more.
    """
    delivery.status, delivery.next_attempt_at, delivery.finished_at = "pending", now, None
    delivery.lease_token = delivery.lease_expires_at = None
    announce_delivery(session, delivery, now=now)


def announce_delivery(session: Session, delivery: DeliveryRow, *, now: datetime) -> None:
    """Ring for a message that is due."""
    ring(session, "deliver_webhook", "io", delivery.id, now=now)
    delivery.ring_again_at = now + RING_AGAIN_AFTER


def wants(events: Sequence[str], type: str) -> bool:
    """`*` is everything but what must be asked for by name."""
    return type in events or ("*" in events and type not in OPT_IN)


def _body(type: str, data: dict[str, Any], now: datetime) -> str:
    """The exact text that is signed. What would not fit is left to be fetched by its id."""
    timestamp = now.isoformat().replace("+00:00", "Z")
    body = json.dumps({"type": type, "timestamp": timestamp, "data": data}, separators=(",", ":"), ensure_ascii=False)
    if len(body.encode()) < BODY_LIMIT:
        return body
    short = {name: data[name] for name in ("id", "object", "kind", "status") if name in data}
    return json.dumps({"type": type, "timestamp": timestamp, "data": {**short, "truncated": True}}, separators=(",", ":"))
