"""Hands webhook messages to their receivers, as Standard Webhooks describes (https://www.standardwebhooks.com)."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import structlog
from sqlalchemy import or_, update
from sqlalchemy.orm import Session
from standardwebhooks.webhooks import Webhook

from app.audit.service import record_audit
from app.db import database_now
from app.settings import Reach
from app.webhooks.addresses import AddressRefused
from app.webhooks.emit import RING_AGAIN_AFTER
from app.webhooks.secrets import signing_secrets
from app.webhooks.tables import DeliveryAttemptRow, DeliveryRow, WebhookRow
from workers.context import Context
from workers.guarded_http import GuardedTransport, TooSlow
from workers.metrics import WEBHOOK_SECONDS

log = structlog.get_logger()

# What is waited after each failed attempt; after the last one the message is given up.
RETRY_AFTER = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
JITTER = 0.1
LONGEST_RETRY_AFTER = timedelta(hours=24)
LEASE = timedelta(minutes=1)
WRITE_SECONDS = 5.0
TOTAL_SECONDS = 20.0

# An endpoint that has refused everything for so long, and so often, is left alone. Two messages given up are 20 attempts in
# six days; one bad day, or one message that it chokes on, is not enough.
DISABLE_AFTER = timedelta(days=5)
DISABLE_AFTER_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to. `error` says why there is no status."""

    status_code: int | None
    error: str | None
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def word(self) -> str:
        if self.status_code is None:
            return "unreachable"
        return "delivered" if self.delivered else "refused"

    @property
    def gone(self) -> bool:
        """The receiver asks for nothing to be sent there ever again."""
        return self.status_code == 410


@dataclass(frozen=True, slots=True)
class Message:
    """One message on its way, and the proof that it is ours to send."""

    delivery_id: str
    webhook_id: str
    token: str
    number: int
    url: str
    headers: dict[str, str]
    body: bytes


def deliver(context: Context, delivery_id: str) -> None:
    """Send a message that is due, once, and note what came of it. Does nothing if it is not due or somebody else has it."""
    with context.sessions.begin() as session:
        message = claim_message(session, context, delivery_id)
        started = database_now(session)
    if message is None:
        return
    begun = time.monotonic()
    try:
        outcome = send(message, reach=context.settings.webhook_reach)
    except Exception as error:
        # An attempt that is not noted is made again every minute, for ever.
        log.exception("webhook.crashed", delivery_id=delivery_id, number=message.number)
        outcome = failed_by(error)
    duration_ms = round((time.monotonic() - begun) * 1000)
    WEBHOOK_SECONDS.labels(outcome.word).observe(duration_ms / 1000)
    log.info("webhook.attempted", delivery_id=delivery_id, number=message.number, status_code=outcome.status_code, error=outcome.error)
    with context.sessions.begin() as session:
        record_attempt(session, message, outcome, started=started, duration_ms=duration_ms)


def claim_message(session: Session, context: Context, delivery_id: str) -> Message | None:
    """Take a due message and sign it."""
    now = database_now(session)
    token = secrets.token_hex(16)
    claimed = session.execute(
        update(DeliveryRow)
        .where(
            DeliveryRow.id == delivery_id,
            DeliveryRow.status == "pending",
            DeliveryRow.next_attempt_at <= now,
            or_(DeliveryRow.lease_expires_at.is_(None), DeliveryRow.lease_expires_at <= now),
        )
        .values(lease_token=token, lease_expires_at=now + LEASE, ring_again_at=now + RING_AGAIN_AFTER, attempts=DeliveryRow.attempts + 1)
        .execution_options(synchronize_session=False)
    )
    if claimed.rowcount != 1:  # type: ignore[attr-defined]
        return None
    delivery = session.get_one(DeliveryRow, delivery_id, populate_existing=True)
    webhook = session.get_one(WebhookRow, delivery.webhook_id)
    if not webhook.enabled:
        delivery.attempts -= 1
        _settle(session, delivery, "failed", now)
        return None
    headers = sign(delivery, signing_secrets(context.runtime.signer, webhook, now=now), now=now)
    return Message(delivery.id, webhook.id, token, delivery.attempts, webhook.url, headers, delivery.body.encode())


def sign(delivery: DeliveryRow, signing: list[str], *, now: datetime) -> dict[str, str]:
    """The headers that prove where a message comes from: one signature for each secret that is good now."""
    signatures = [Webhook(secret).sign(msg_id=delivery.id, timestamp=now, data=delivery.body) for secret in signing]
    return {
        "content-type": "application/json",
        "user-agent": "Lustral-Webhooks/1",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def send(message: Message, *, reach: Reach) -> Outcome:
    """One attempt: look the host up, check its address, and connect to that very address. Redirects are not followed."""
    until = time.monotonic() + TOTAL_SECONDS

    def check() -> None:
        if time.monotonic() > until:
            raise TooSlow

    timeout = httpx.Timeout(TOTAL_SECONDS, write=WRITE_SECONDS)
    try:
        with httpx.Client(transport=GuardedTransport(reach=reach, check=check), timeout=timeout, follow_redirects=False) as client:
            request = client.build_request("POST", message.url, content=message.body, headers=message.headers)
            # The status is all that counts: no receiver makes us read a long body.
            response = client.send(request, stream=True)
            response.close()
    except AddressRefused as refusal:
        return Outcome(None, str(refusal))
    except (TooSlow, httpx.ReadTimeout):
        return Outcome(None, f"no answer within {TOTAL_SECONDS:.0f} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return failed_by(error)
    return Outcome(response.status_code, None, _retry_after(response.headers.get("retry-after")))


def failed_by(error: Exception) -> Outcome:
    """The outcome of an attempt that came to no answer. Its text is one that every database takes."""
    text = f"{type(error).__name__}: {error}".replace("\0", "\\0")[:500]
    return Outcome(None, text.encode(errors="backslashreplace").decode())


def record_attempt(session: Session, message: Message, outcome: Outcome, *, started: datetime, duration_ms: int) -> None:
    """Note the attempt, and whether and when there will be another."""
    # The endpoint first, as whoever deletes it does: two that lock in another order may wait for each other for ever.
    webhook = session.get(WebhookRow, message.webhook_id, with_for_update=True, populate_existing=True)
    delivery = session.get(DeliveryRow, message.delivery_id, with_for_update=True, populate_existing=True)
    if webhook is None or delivery is None:
        return  # the endpoint was deleted meanwhile
    session.add(
        DeliveryAttemptRow(
            delivery_id=delivery.id,
            number=message.number,
            started_at=started,
            duration_ms=duration_ms,
            status_code=outcome.status_code,
            error=outcome.error,
        )
    )
    if delivery.lease_token != message.token:
        return  # it took so long that somebody else has it; the attempt is noted all the same
    now = database_now(session)
    if outcome.delivered:
        webhook.failures, webhook.failing_since = 0, None
        _settle(session, delivery, "succeeded", now)
        return
    webhook.failures, webhook.failing_since = webhook.failures + 1, webhook.failing_since or now
    reason = _reason_to_disable(webhook, outcome, now)
    if reason is not None and webhook.enabled:
        webhook.enabled, webhook.disabled_reason, webhook.updated_at = False, reason, now
        record_audit(session, webhook.tenant_id, None, "webhook.disabled", webhook.id)
        log.warning("webhook.disabled", webhook_id=webhook.id, reason=reason)
    if not webhook.enabled or message.number > len(RETRY_AFTER):
        _settle(session, delivery, "failed", now)
        return
    delivery.lease_token = delivery.lease_expires_at = None
    delivery.next_attempt_at = delivery.ring_again_at = now + pause_after(message.number, outcome.retry_after)


def pause_after(number: int, retry_after: timedelta | None, *, jitter: float | None = None) -> timedelta:
    """How long to wait after the failed attempt `number` (from 1): never shorter than the receiver asks, up to a day.

    jitter: a share of the pause that is added, at random if None, so that receivers do not get everything at once.
    """
    planned = RETRY_AFTER[number - 1]
    spread = random.uniform(0, JITTER) if jitter is None else jitter  # noqa: S311  (nothing secret about it)
    return max(planned * (1 + spread), min(retry_after or timedelta(), LONGEST_RETRY_AFTER))


def _reason_to_disable(webhook: WebhookRow, outcome: Outcome, now: datetime) -> str | None:
    if outcome.gone:
        return "the receiver answered 410 Gone"
    since = webhook.failing_since or now
    if now - since < DISABLE_AFTER or webhook.failures < DISABLE_AFTER_ATTEMPTS:
        return None
    last = outcome.error or f"it answered {outcome.status_code}"
    return f"all {webhook.failures} attempts since {since:%Y-%m-%dT%H:%M:%SZ} failed; the last time: {last}"


def _settle(session: Session, delivery: DeliveryRow, status: str, now: datetime) -> None:
    delivery.status, delivery.finished_at = status, now
    delivery.next_attempt_at = delivery.ring_again_at = delivery.lease_token = delivery.lease_expires_at = None
    session.flush()


def _retry_after(value: str | None) -> timedelta | None:
    """`Retry-After` as seconds or as a date."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) < 10:
        return timedelta(seconds=int(value))
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date - datetime.now(UTC) if date.tzinfo is not None else None
