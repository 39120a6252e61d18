"""The inspection of a model or data set: a step without a job, on which jobs may wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.blobs.service import release
from app.datasets.tables import DatasetRow
from app.db import database_now
from app.ids import new_id
from app.jobs import states
from app.jobs.outbox import ring
from app.jobs.tables import JobRow, StepRow
from app.models.tables import ModelRow
from app.tracing import current_carrier
from app.webhooks.emit import emit

InspectionKind = Literal["inspect_model", "inspect_dataset"]

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an inspection found: facts for `inspection`, faults for `findings`, and whether the subject can be used."""

    accepted: bool
    facts: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)


def queue_inspection(session: Session, *, tenant_id: str, subject_id: str, kind: InspectionKind) -> StepRow:
    """Have a model or data set that was just added, status `inspecting`, looked at."""
    now = database_now(session)
    step = StepRow(
        id=new_id("step"),
        tenant_id=tenant_id,
        job_id=None,
        subject_id=subject_id,
        kind=kind,
        queue="io",
        status="ready",
        rings=0,
        max_attempts=MAX_ATTEMPTS,
        trace=current_carrier() or None,
        created_at=now,
    )
    session.add(step)
    states.announce(session, step, now=now)
    return step


def record_inspection(session: Session, step: StepRow, inspection: Inspection) -> None:
    """The subject becomes `ready` or `rejected`; webhooks hear of it, and jobs that waited for it begin or fail.

    Called in the transaction that completes the step, which has proven that no other worker holds it.
    """
    subject = find_input(session, step.subject_id, lock=True)
    if subject is None or subject.status != "inspecting":
        return  # deleted while it was looked at
    now = database_now(session)
    subject.status = "ready" if inspection.accepted else "rejected"
    subject.inspection, subject.findings, subject.updated_at = inspection.facts, inspection.findings, now
    if not subject.files:
        release(session, subject.id)  # what had been fetched when its source was given up
    session.flush()
    ring(session, "sweep", "io", subject.id, now=now)  # attempts that were killed left what nobody names
    _tell_webhooks(session, subject, now)
    for job_id in states.waiting_jobs(session, subject.tenant_id, subject.id):
        job = states.lock_job(session, job_id)
        if job is not None and job.status == "queued":
            begin_or_fail(session, job)


def give_up(session: Session, step: StepRow, error: dict[str, Any]) -> None:
    """The inspection itself failed too often: what could not be examined is not used."""
    findings = [{"severity": "error", "code": "inspection-failed", "detail": error["detail"]}]
    record_inspection(session, step, Inspection(accepted=False, findings=findings))


def begin_or_fail(session: Session, job: JobRow) -> None:
    """Begin a queued job if all its inputs are ready; fail it if one was rejected or deleted; else let it wait."""
    inputs = {id: find_input(session, id) for id in job.input_ids}
    for id, subject in inputs.items():
        if subject is None or subject.status == "rejected":
            states.fail_job(session, job, unusable_input(id, subject), now=database_now(session))
            return
    if all(subject is not None and subject.status == "ready" for subject in inputs.values()):
        states.release_first_stage(session, job)


def unusable_input(id: str, subject: ModelRow | DatasetRow | None) -> dict[str, str]:
    """The error of a job that reads a rejected or deleted input."""
    noun = "model" if id.startswith("model_") else "data set"
    if subject is None:
        return states.problem("input-deleted", "An input was deleted", f"The {noun} {id} was deleted before the job began.")
    first = next((finding["detail"] for finding in subject.findings if finding.get("severity") == "error"), "its `findings` say why")
    return states.problem("input-rejected", "An input was rejected", f"The {noun} {id} was rejected by its inspection: {first}")


def find_input(session: Session, id: str, *, lock: bool = False) -> ModelRow | DatasetRow | None:
    """A model or data set by its id, of whatever tenant: for workers, and for ids that a service has checked."""
    if id.startswith("model_"):
        return session.get(ModelRow, id, populate_existing=True, with_for_update=lock)
    return session.get(DatasetRow, id, populate_existing=True, with_for_update=lock)


def _tell_webhooks(session: Session, subject: ModelRow | DatasetRow, now: datetime) -> None:
    noun = "model" if isinstance(subject, ModelRow) else "dataset"
    data = {
        "id": subject.id,
        "object": noun,
        "name": subject.name,
        "status": subject.status,
        "findings": subject.findings[:20],
    }
    emit(session, tenant_id=subject.tenant_id, type=f"{noun}.{subject.status}", data=data, now=now)
