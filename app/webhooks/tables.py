"""Webhook endpoints, the messages owed to them, and every attempt to hand one over."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class WebhookRow(Base):
    """An address that wants to hear. No secret is stored: it is derived from the server's key, the id and `secret_generation`.

    `events` are the types it wants; `job_id` narrows it to one job (the `webhook_url` of a job). `disabled_reason` is set when the
    receiver answered 410 or failed for days, or the owner switched it off. `failures` counts the failed attempts since one
    succeeded, and `failing_since` is when they began.
    """

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    url: Mapped[str]
    description: Mapped[str]
    events: Mapped[list[Any]]
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None]
    secret_generation: Mapped[int] = mapped_column(default=1)
    previous_secret_expires_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0)
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    # By job: every event of a job asks who listens to it, and there may be an endpoint for each job.
    __table_args__ = (Index(None, "tenant_id", "id"), Index(None, "tenant_id", "job_id"), Index(None, "job_id"))


class DeliveryRow(Base):
    """A message owed to one endpoint. `status`: pending, succeeded, failed.

    `id` is the `webhook-id` header, `body` the exact text that is signed. A worker claims it like a step: one conditional update
    that sets `lease_token` and `lease_expires_at`.
    """

    __tablename__ = "webhook_deliveries"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_type: Mapped[str]
    body: Mapped[str] = mapped_column(Text)
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    ring_again_at: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "webhook_id", "id"), Index(None, "status", "ring_again_at"))


class DeliveryAttemptRow(Base):
    """One try: what came back, or why nothing did."""

    __tablename__ = "webhook_delivery_attempts"
    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    duration_ms: Mapped[int]
    status_code: Mapped[int | None]
    error: Mapped[str | None]
