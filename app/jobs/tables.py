"""Jobs, their steps, their events, and the outbox that rings the workers' bell."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Serial

# The type of a ready step's error when workers pass it by.
NO_ROOM = "no-worker-fits"
_RESERVING = text("reserved_bytes IS NOT NULL")


class JobRow(Base):
    """A defence job. Its status never goes backwards: queued, running, (cancelling,) succeeded | failed | cancelled.

    `webhook_id` is the endpoint that was made from the job's own `webhook_url`. The two `progress_…_at` hold how long
    ago progress was last told, so that a fast step neither floods the events nor the receivers. `timeout_seconds` is how
    long the job may run, as its tenant's limit was when it was created; `deadline_at` is set when it begins, and brought forward
    when it is cancelled: its workers have until then to let go.
    """

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str]
    status: Mapped[str]
    stage: Mapped[str | None]
    model_id: Mapped[str]
    dataset_id: Mapped[str | None]
    triggered_dataset_id: Mapped[str | None]
    clean_dataset_id: Mapped[str | None]
    target: Mapped[dict[str, Any] | None]
    parameters: Mapped[dict[str, Any]]
    job_metadata: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    webhook_id: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    progress_event_at: Mapped[datetime | None]
    progress_webhook_at: Mapped[datetime | None]
    swept_at: Mapped[datetime | None]
    timeout_seconds: Mapped[int | None]
    deadline_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("status IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')", name="status"),
        Index(None, "tenant_id", "id"),
        Index(None, "tenant_id", "status", "id"),
        Index(None, "tenant_id", "model_id", "id"),
        Index(None, "status"),
        Index(None, "swept_at", "finished_at"),
        Index(None, "status", "deadline_at"),
    )

    @property
    def input_ids(self) -> list[str]:
        """The models and data sets the job reads: all must be `ready` before its first step is."""
        ids = (self.model_id, self.dataset_id, self.triggered_dataset_id, self.clean_dataset_id)
        return [id for id in ids if id is not None]


class StepRow(Base):
    """One claimable piece of work: a shard of a job, or the inspection of a model or data set (then `job_id` is null).

    `status`: blocked (an earlier stage is not finished), ready, running, succeeded, failed, cancelled. The steps of one
    `position` form a stage; a stage becomes ready when all steps of the one before it have succeeded.
    A step is claimed by one conditional update that raises `attempt` and sets `lease_token` and `lease_expires_at` by
    the database's clock. `ring_again_at` says when a ready step that nobody claimed is announced once more.
    `outputs` and `checkpoint` are manifests: `{"files": [{"path", "key", "sha256", "bytes"}]}`. `reserved_bytes` is what an
    unfinished inspection may still fetch: it counts as stored.
    `trace` is the carrier of the request that asked for the work (`app.tracing`), and the `traceparent` of the `last_attempt`.
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
    ring_again_at: Mapped[datetime | None]
    rings: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    worker: Mapped[str | None]
    progress: Mapped[dict[str, Any] | None]
    checkpoint: Mapped[dict[str, Any] | None]
    outputs: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    trace: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    reserved_bytes: Mapped[int | None] = mapped_column(BigInteger)

    @property
    def passed_by(self) -> bool:
        """Whether the last worker that looked at the step had no room for it."""
        return self.error is not None and self.error.get("type", "").endswith(f":{NO_ROOM}")

    @property
    def waiting_for(self) -> str | None:
        """What that worker was short of."""
        return self.error["detail"] if self.error is not None and self.passed_by and self.status == "ready" else None

    __table_args__ = (
        CheckConstraint("status IN ('blocked', 'ready', 'running', 'succeeded', 'failed', 'cancelled')", name="status"),
        UniqueConstraint("job_id", "kind", "shard"),
        Index(None, "status", "lease_expires_at"),
        Index(None, "status", "ring_again_at"),
        Index(None, "subject_id"),
        Index(None, "tenant_id", sqlite_where=_RESERVING, postgresql_where=_RESERVING),
    )


class StepAttemptRow(Base):
    """One claim of a step. `outcome`: succeeded, failed, lost (its worker fell silent), handed_back, cancelled; null while it runs.

    `log_artifact_id` is null where the attempt left no log: its worker died or had lost the step, or the store was away.
    """

    __tablename__ = "step_attempts"
    step_id: Mapped[str] = mapped_column(ForeignKey("steps.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    log_artifact_id: Mapped[str | None]


class EventRow(Base):
    """One line of a job's history, numbered by the database; `id` is what SSE resumes from.

    Written only while the job's row is locked, so that a job's events become visible in the order of their numbers.
    On PostgreSQL the table is partitioned by `created_at`, which is part of its primary key there (`app.jobs.partitions`).
    """

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    tenant_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "job_id", "id"),)


class OutboxRow(Base):
    """A message that was decided together with a state change and is still to be handed to the broker.

    `topic` is the name of the Celery task, `payload` its arguments: `{"queue": …, "id": …}` and a carrier (`app.tracing`). Of the topic
    `sweep` see `workers.sweeper`.
    """

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    topic: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
