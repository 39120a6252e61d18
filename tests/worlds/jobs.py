"""A small world of tenants, models and jobs, made and looked at straight in the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

import app.tables  # noqa: F401
from app.auth.tables import TenantRow
from app.datasets.tables import DatasetRow
from app.db import Base, database_now, make_engine, make_session_factory
from app.ids import new_id
from app.jobs import inspections, leases, states
from app.jobs.leases import Lease
from app.jobs.plan import plan_steps
from app.jobs.tables import EventRow, JobRow, OutboxRow, StepRow
from app.models.tables import ModelRow
from app.webhooks.tables import DeliveryRow, WebhookRow
from gpu_jobs.config import JobKind, JobParameters


@dataclass
class World:
    """Each method is a transaction of its own."""

    sessions: sessionmaker[Session]
    tenant_id: str = "ten_1"

    def model(
        self, *, status: str = "ready", files: Sequence[dict[str, Any]] = (), source: dict[str, Any] | None = None, weights: int = 0
    ) -> str:
        return self._subject(ModelRow, new_id("model"), status, files, source or {}, {"parameters": weights})

    def dataset(self, *, status: str = "ready", files: Sequence[dict[str, Any]] = (), source: dict[str, Any] | None = None) -> str:
        return self._subject(DatasetRow, new_id("dset"), status, files, source or {}, {})

    def subject(self, id: str) -> ModelRow | DatasetRow:
        with self.sessions() as session:
            found = inspections.find_input(session, id)
        assert found is not None
        return found

    def inspect(self, subject_id: str) -> str:
        """Queue the inspection of a model or data set and return the id of its step."""
        kind: inspections.InspectionKind = "inspect_model" if subject_id.startswith("model_") else "inspect_dataset"
        with self.sessions.begin() as session:
            return inspections.queue_inspection(session, tenant_id=self.tenant_id, subject_id=subject_id, kind=kind).id

    def finish_inspection(self, step_id: str, *, accepted: bool) -> None:
        lease = self.claimed(step_id)
        findings = [] if accepted else [{"severity": "error", "code": "bad", "detail": "the header lies"}]
        with self.sessions.begin() as session:
            leases.complete_step(session, lease, result={}, outputs={})
            inspections.record_inspection(session, session.get_one(StepRow, step_id), inspections.Inspection(accepted, {}, findings))

    def webhook(self, events: list[str], *, url: str = "http://127.0.0.1:9/hook", job_id: str | None = None) -> str:
        with self.sessions.begin() as session:
            now = database_now(session)
            row = WebhookRow(
                id=new_id("wh"),
                tenant_id=self.tenant_id,
                job_id=job_id,
                url=url,
                description="",
                events=events,
                created_at=now,
                updated_at=now,
            )
            session.add(row)
            return row.id

    def job(
        self,
        kind: JobKind = "scan",
        *,
        model_id: str | None = None,
        dataset_id: str | None = None,
        shards: int = 2,
        max_attempts: int = 3,
        job_id: str | None = None,
    ) -> str:
        job = JobRow(
            id=job_id or new_id("job"),
            tenant_id=self.tenant_id,
            kind=kind,
            model_id=model_id or self.model(),
            dataset_id=dataset_id or self.dataset(),
            parameters=JobParameters(shards=shards, max_attempts=max_attempts).model_dump(mode="json"),
            job_metadata={},
        )
        with self.sessions.begin() as session:
            states.open_job(session, job, plan_steps(kind, shards), max_attempts=max_attempts)
            inspections.begin_or_fail(session, job)
        return job.id

    def get(self, job_id: str) -> JobRow:
        with self.sessions() as session:
            return session.get_one(JobRow, job_id)

    def step(self, step_id: str) -> StepRow:
        with self.sessions() as session:
            return session.get_one(StepRow, step_id)

    def steps(self, job_id: str, kind: str | None = None) -> list[StepRow]:
        with self.sessions() as session:
            query = select(StepRow).where(StepRow.job_id == job_id).order_by(StepRow.position, StepRow.shard)
            return [step for step in session.scalars(query) if kind in (None, step.kind)]

    def statuses(self, job_id: str) -> list[tuple[str, str]]:
        return [(step.kind, step.status) for step in self.steps(job_id)]

    def events(self, job_id: str) -> list[EventRow]:
        with self.sessions() as session:
            return list(session.scalars(select(EventRow).where(EventRow.job_id == job_id).order_by(EventRow.id)))

    def event_types(self, job_id: str) -> list[str]:
        return [event.type for event in self.events(job_id)]

    def deliveries(self) -> list[DeliveryRow]:
        with self.sessions() as session:
            return list(session.scalars(select(DeliveryRow).order_by(DeliveryRow.id)))

    def bells(self, topic: str = "run_step") -> list[str]:
        """Empty the outbox and return the ids that bells were rung for, in order."""
        with self.sessions.begin() as session:
            rows = session.scalars(select(OutboxRow).order_by(OutboxRow.id)).all()
            for row in rows:
                session.delete(row)
            return [row.payload["id"] for row in rows if row.topic == topic]

    def claim(self, step_id: str, *, worker: str = "worker-1", lease_seconds: float = 60) -> Lease | None:
        with self.sessions.begin() as session:
            return leases.claim_step(session, step_id, worker=worker, lease_seconds=lease_seconds)

    def claimed(self, step_id: str, *, worker: str = "worker-1") -> Lease:
        lease = self.claim(step_id, worker=worker)
        assert lease is not None, f"{step_id} was not to be had"
        return lease

    def claim_next(self, job_id: str) -> Lease:
        """Claim the first ready step of the job."""
        return self.claimed(next(step.id for step in self.steps(job_id) if step.status == "ready"))

    def complete(self, lease: Lease, result: dict[str, Any] | None = None) -> bool:
        with self.sessions.begin() as session:
            return leases.complete_step(session, lease, result=result or {}, outputs={"files": []})

    def fail(self, lease: Lease, *, final: bool = False, detail: str = "it broke") -> None:
        with self.sessions.begin() as session:
            leases.fail_step(session, lease, states.problem("step-error", "A step failed", detail), final=final)

    def renew(self, lease: Lease) -> bool:
        with self.sessions.begin() as session:
            return leases.renew_lease(session, lease, lease_seconds=60)

    def cancel(self, job_id: str) -> None:
        with self.sessions.begin() as session:
            job = states.lock_job(session, job_id)
            assert job is not None
            states.cancel_job(session, job)

    def run_to(self, job_id: str, kind: str) -> None:
        """Complete steps until one of `kind` is ready."""
        while not any(step.kind == kind and step.status == "ready" for step in self.steps(job_id)):
            self.complete(self.claim_next(job_id))

    def pass_time(self, **columns: timedelta) -> None:
        """Move these timestamps of all steps and deliveries into the past, as if so much time had gone by."""
        with self.sessions.begin() as session:
            for table in (StepRow, DeliveryRow):
                for row in session.scalars(select(table)):
                    for name, span in columns.items():
                        if getattr(row, name, None) is not None:
                            setattr(row, name, getattr(row, name) - span)

    def _subject(
        self,
        table: type[ModelRow | DatasetRow],
        id: str,
        status: str,
        files: Sequence[dict[str, Any]],
        source: dict[str, Any],
        inspection: dict[str, Any],
    ) -> str:
        with self.sessions.begin() as session:
            now = database_now(session)
            session.add(
                table(
                    id=id,
                    tenant_id=self.tenant_id,
                    name=id,
                    status=status,
                    source=source,
                    files=list(files),
                    inspection=inspection,
                    findings=[],
                    created_at=now,
                    updated_at=now,
                )
            )
        return id


@contextmanager
def make_world(database_url: str) -> Iterator[World]:
    """A world with one tenant and nothing else in it. The database is empty, or was another world's."""
    engine = make_engine(database_url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    world = World(make_session_factory(engine))
    with world.sessions.begin() as session:
        session.add(TenantRow(id=world.tenant_id, name="default", created_at=database_now(session)))
    yield world
    engine.dispose()
