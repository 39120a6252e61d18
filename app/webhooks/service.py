"""The rules of webhooks, as requests meet them. Messages are owed by `emit` and delivered by a worker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from app.audit.service import record_audit
from app.auth.service import Caller
from app.db import database_now
from app.errors import Conflict, InvalidInput
from app.ids import new_id
from app.repository import get_owned
from app.runtime import Runtime
from app.webhooks import repository
from app.webhooks.addresses import AddressRefused, parse_url
from app.webhooks.emit import attempt_now, owe
from app.webhooks.schemas import AttemptResource, DeliveryResource, WebhookCreate, WebhookResource, WebhookUpdate, WebhookWithSecret
from app.webhooks.secrets import secret_of
from app.webhooks.tables import DeliveryRow, WebhookRow

MOST_WEBHOOKS = 50
OLD_SECRET_LASTS = timedelta(hours=24)
SWITCHED_OFF = "switched off by its owner"


def create_webhook(session: Session, runtime: Runtime, caller: Caller, body: WebhookCreate) -> WebhookWithSecret:
    """A new endpoint and, this once, its secret.

    Raises:
        InvalidInput: the address is not one that this server may call.
        Conflict: the tenant has as many webhooks as it may.
    """
    _check_url(runtime, body.url)
    if repository.count_webhooks(session, caller.tenant_id) >= MOST_WEBHOOKS:
        raise Conflict(f"There are {MOST_WEBHOOKS} webhooks already. Delete one first.")
    now = datetime.now(UTC)
    webhook = WebhookRow(
        id=new_id("wh"),
        tenant_id=caller.tenant_id,
        url=body.url,
        description=body.description,
        events=list(body.events),
        enabled=True,
        secret_generation=1,
        created_at=now,
        updated_at=now,
    )
    session.add(webhook)
    session.flush()
    record_audit(session, caller.tenant_id, caller.key_id, "webhook.created", webhook.id)
    return _with_secret(runtime, webhook)


def update_webhook(session: Session, runtime: Runtime, caller: Caller, webhook_id: str, body: WebhookUpdate) -> WebhookResource:
    """Change what the body names and leave the rest.

    Raises:
        InvalidInput: the new address is not one that this server may call.
    """
    if body.url is not None:
        _check_url(runtime, body.url)
    webhook = get_owned(session, WebhookRow, caller.tenant_id, webhook_id, lock=True)
    for name in ("url", "events", "description"):
        value = getattr(body, name)
        if value is not None:
            setattr(webhook, name, value)
    if body.enabled is not None:
        webhook.enabled, webhook.disabled_reason = body.enabled, None if body.enabled else SWITCHED_OFF
    if body.enabled or body.url is not None:
        webhook.failures, webhook.failing_since = 0, None
    webhook.updated_at = datetime.now(UTC)
    record_audit(session, caller.tenant_id, caller.key_id, "webhook.updated", webhook.id)
    return WebhookResource.of(webhook)


def delete_webhook(session: Session, caller: Caller, webhook_id: str) -> None:
    """Its deliveries go with it, also those that are still owed."""
    session.delete(get_owned(session, WebhookRow, caller.tenant_id, webhook_id, lock=True))
    record_audit(session, caller.tenant_id, caller.key_id, "webhook.deleted", webhook_id)


def rotate_secret(session: Session, runtime: Runtime, caller: Caller, webhook_id: str) -> WebhookWithSecret:
    """A new secret. For 24 hours messages are signed with the one before it too, so the receiver can change over when it likes.

    A second rotation within that time ends the first secret at once: it is what one does after a leak.
    """
    webhook = get_owned(session, WebhookRow, caller.tenant_id, webhook_id, lock=True)
    now = datetime.now(UTC)
    webhook.secret_generation += 1
    webhook.previous_secret_expires_at, webhook.updated_at = now + OLD_SECRET_LASTS, now
    record_audit(session, caller.tenant_id, caller.key_id, "webhook.secret_rotated", webhook.id)
    return _with_secret(runtime, webhook)


def send_test(session: Session, caller: Caller, webhook_id: str) -> DeliveryResource:
    """Owe the endpoint a `webhook.test` message, whatever types it wants.

    Raises:
        Conflict: it is switched off.
    """
    webhook = _enabled(get_owned(session, WebhookRow, caller.tenant_id, webhook_id, lock=True))
    delivery = owe(session, webhook, type="webhook.test", data={"webhook_id": webhook.id}, now=database_now(session))
    record_audit(session, caller.tenant_id, caller.key_id, "webhook.tested", webhook.id)
    session.flush()
    return show_deliveries(session, [delivery])[0]


def redeliver(session: Session, caller: Caller, webhook_id: str, delivery_id: str) -> DeliveryResource:
    """Send a message again, whatever became of it before.

    Raises:
        Conflict: the endpoint is switched off.
    """
    _enabled(get_owned(session, WebhookRow, caller.tenant_id, webhook_id))
    delivery = repository.get_delivery(session, caller.tenant_id, webhook_id, delivery_id, lock=True)
    attempt_now(session, delivery, now=database_now(session))
    record_audit(session, caller.tenant_id, caller.key_id, "delivery.redelivered", delivery.id)
    session.flush()
    return show_deliveries(session, [delivery])[0]


def show_deliveries(session: Session, deliveries: Sequence[DeliveryRow]) -> list[DeliveryResource]:
    attempts = repository.attempts_of(session, deliveries)
    return [
        DeliveryResource.model_validate(
            {
                "id": delivery.id,
                "webhook_id": delivery.webhook_id,
                "type": delivery.event_type,
                "status": delivery.status,
                "payload": json.loads(delivery.body),
                "attempts": [AttemptResource.model_validate(attempt, from_attributes=True) for attempt in attempts[delivery.id]],
                "next_attempt_at": delivery.next_attempt_at,
                "created_at": delivery.created_at,
                "finished_at": delivery.finished_at,
            }
        )
        for delivery in deliveries
    ]


def _check_url(runtime: Runtime, url: str) -> None:
    try:
        parse_url(url, reach=runtime.settings.webhook_reach)
    except AddressRefused as error:
        raise InvalidInput.at("/url", str(error)) from error


def _enabled(webhook: WebhookRow) -> WebhookRow:
    if not webhook.enabled:
        raise Conflict(f"This webhook is disabled: {webhook.disabled_reason}. PATCH it with enabled: true first.")
    return webhook


def _with_secret(runtime: Runtime, webhook: WebhookRow) -> WebhookWithSecret:
    return WebhookWithSecret(**WebhookResource.of(webhook).model_dump(), secret=secret_of(runtime.signer, webhook))
