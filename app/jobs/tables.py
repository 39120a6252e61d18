"""Jobs, their steps, their events, and the outbox that rings the workers' bell."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class JobRow(Base):
    """A defence job. `status`: queued, running, cancelling, succeeded, failed, cancelled; it never goes backwards."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str]
    status: Mapped[str]
    stage: Mapped[str | None]
    model_id: Mapped[str]
    dataset_id: Mapped[str | None]
    parameters: Mapped[dict[str, Any]]
    evaluation: Mapped[dict[str, Any] | None]
    job_metadata: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    webhook_id: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "tenant_id", "id"), Index(None, "tenant_id", "status"))


class StepRow(Base):
    """One claimable piece of work: a shard of a job, or the inspection of a model or data set (then `job_id` is null).

    `status`: blocked (waits for `needs`), ready, running, succeeded, failed, cancelled. A step is claimed by one
    conditional update that raises `attempt` and sets `lease_token` and `lease_expires_at` by the database's clock.
    """

    __tablename__ = "steps"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    subject_id: Mapped[str]
    kind: Mapped[str]
    shard: Mapped[int] = mapped_column(default=0)
    shards: Mapped[int] = mapped_column(default=1)
    position: Mapped[int] = mapped_column(default=0)
    queue: Mapped[str]
    status: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    not_before: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    worker: Mapped[str | None]
    progress: Mapped[dict[str, Any] | None]
    checkpoint: Mapped[dict[str, Any] | None]
    outputs: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("job_id", "kind", "shard"), Index(None, "status", "lease_expires_at"), Index(None, "subject_id"))


class EventRow(Base):
    """One line of a job's history, numbered by the database; `id` is what SSE resumes from."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    tenant_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "job_id", "id"),)


class OutboxRow(Base):
    """A message that was decided together with a state change and is still to be handed to the broker."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    topic: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
