"""SQL about webhooks and their deliveries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.repository import count_owned, get_owned
from app.webhooks.tables import DeliveryAttemptRow, DeliveryRow, WebhookRow


def count_webhooks(session: Session, tenant_id: str) -> int:
    """Those of single jobs not counted."""
    return count_owned(session, WebhookRow, tenant_id, WebhookRow.job_id.is_(None))


def get_delivery(session: Session, tenant_id: str, webhook_id: str, delivery_id: str, *, lock: bool = False) -> DeliveryRow:
    """One delivery of one webhook.

    Raises:
        NotFound: there is none, or it belongs to another webhook or tenant.
    """
    delivery = get_owned(session, DeliveryRow, tenant_id, delivery_id, lock=lock)
    if delivery.webhook_id != webhook_id:
        raise NotFound(f"The webhook {webhook_id!r} has no delivery {delivery_id!r}.")
    return delivery


def attempts_of(session: Session, deliveries: Sequence[DeliveryRow]) -> Mapping[str, list[DeliveryAttemptRow]]:
    found: dict[str, list[DeliveryAttemptRow]] = defaultdict(list)
    query = select(DeliveryAttemptRow).where(DeliveryAttemptRow.delivery_id.in_([delivery.id for delivery in deliveries]))
    for attempt in session.scalars(query.order_by(DeliveryAttemptRow.number)):
        found[attempt.delivery_id].append(attempt)
    return found
