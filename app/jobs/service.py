"""The rules of jobs, as requests meet them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.artifacts.tables import ArtifactRow
from app.audit.service import record_audit
from app.auth.service import Caller
from app.blobs import service as blobs
from app.datasets.tables import DatasetRow
from app.db import database_now
from app.errors import Conflict, InputFault, InvalidInput, NotFound
from app.ids import new_id
from app.jobs import repository, states
from app.jobs.inspections import begin_or_fail
from app.jobs.outbox import ring
from app.jobs.plan import plan_steps
from app.jobs.schemas import CreatedJob, JobCreate, JobResource, job_resource
from app.jobs.tables import JobRow
from app.models.tables import ModelRow
from app.quotas import service as quotas
from app.repository import find_owned, get_owned
from app.runtime import Runtime
from app.webhooks.addresses import AddressRefused, parse_url
from app.webhooks.secrets import secret_of
from app.webhooks.tables import WebhookRow

_NOUNS: dict[type[ModelRow | DatasetRow], str] = {ModelRow: "model", DatasetRow: "data set"}
JOB_EVENTS = ["job.queued", "job.started", "job.succeeded", "job.failed", "job.cancelled"]


def create_job(session: Session, runtime: Runtime, caller: Caller, body: JobCreate) -> CreatedJob:
    """A job on the caller's own model and data. It waits for inputs that are still being inspected.

    Raises:
        NotFound: an input is unknown, or another tenant's; `errors` points at it.
        InvalidInput: an input is left out, rejected or of the wrong kind; `errors` points at it.
        QuotaExceeded: the tenant has as many unfinished jobs or stored bytes as it may.
    """
    timeout_seconds = quotas.admit_job(session, runtime.settings, caller.tenant_id)
    _check_needs(body)
    _lock_inputs(session, caller, body)
    evaluation = body.evaluation
    job = JobRow(
        id=new_id("job"),
        tenant_id=caller.tenant_id,
        kind=body.kind,
        model_id=body.model_id,
        dataset_id=body.dataset_id,
        triggered_dataset_id=evaluation and evaluation.triggered_dataset_id,
        clean_dataset_id=evaluation and evaluation.clean_dataset_id,
        target=evaluation and evaluation.target and evaluation.target.model_dump(mode="json"),
        parameters=body.params.model_dump(mode="json"),
        job_metadata=body.metadata,
        timeout_seconds=timeout_seconds,
    )
    listener = body.webhook_url and _listener(session, runtime, job, body.webhook_url)
    states.open_job(
        session, job, plan_steps(body.kind, body.params.shards), max_attempts=body.params.max_attempts, listener=listener or None
    )
    begin_or_fail(session, job)
    record_audit(session, caller.tenant_id, caller.key_id, "job.created", job.id)
    session.flush()
    secret = secret_of(runtime.signer, listener) if listener else None
    return CreatedJob(**show_job(session, job).model_dump(), webhook_secret=secret)


def show_job(session: Session, job: JobRow) -> JobResource:
    return job_resource(job, repository.steps_by_job(session, [job.id])[job.id])


def show_jobs(session: Session, jobs: Sequence[JobRow]) -> dict[str, JobResource]:
    """The jobs by their ids."""
    steps = repository.steps_by_job(session, [job.id for job in jobs])
    return {job.id: job_resource(job, steps[job.id]) for job in jobs}


def cancel_job(session: Session, caller: Caller, job_id: str) -> JobResource:
    """Stop a job. One that is over, or being cancelled already, stays as it is."""
    job = get_owned(session, JobRow, caller.tenant_id, job_id, lock=True)
    if job.status not in (*states.FINAL, "cancelling"):
        states.cancel_job(session, job)
        record_audit(session, caller.tenant_id, caller.key_id, "job.cancelled", job.id)
        session.flush()
    return show_job(session, job)


def delete_job(session: Session, caller: Caller, job_id: str) -> None:
    """Forget a finished job, its events and artifacts, and have the stored bytes deleted that nothing else needs.

    Raises:
        Conflict: it is not over yet.
    """
    job = get_owned(session, JobRow, caller.tenant_id, job_id, lock=True)
    if job.status not in states.FINAL:
        raise Conflict(f"The job is {job.status}. Cancel it first; once it is over it can be deleted.")
    for artifact_id in session.scalars(select(ArtifactRow.id).where(ArtifactRow.job_id == job.id)):
        blobs.release(session, artifact_id)
    session.delete(job)
    record_audit(session, caller.tenant_id, caller.key_id, "job.deleted", job_id)
    ring(session, "sweep", "io", job_id, now=database_now(session))


def find_report(session: Session, caller: Caller, job_id: str, name: str) -> ArtifactRow:
    """The artifact `report.json`, `report.html` or `report.sarif` of the job.

    Raises:
        NotFound: there is no such job.
        Conflict: the job has no report (yet).
    """
    job = get_owned(session, JobRow, caller.tenant_id, job_id)
    report = session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job.id, ArtifactRow.name == name)).one_or_none()
    if report is None:
        if job.status in states.FINAL:
            raise NotFound(f"The job {job.status} and left no {name}.")
        raise Conflict(f"The job is {job.status}; its report is written at the end.")
    return report


def _check_needs(body: JobCreate) -> None:
    if body.dataset_id is None and body.kind != "evaluate":
        raise InvalidInput.at("/dataset_id", f"a {body.kind} job needs the data the model was tuned on")
    if body.dataset_id is None and body.evaluation is None:
        raise InvalidInput.at("/evaluation", "an evaluate job needs `evaluation` sets or a dataset_id")


def _lock_inputs(session: Session, caller: Caller, body: JobCreate) -> None:
    """Check the ids that the body names, and keep the rows as they are until the job is in: an inspection that ends meanwhile
    must find the job that waits for it, and nobody may delete what it reads.

    Raises:
        NotFound: there are no such things of the caller's.
        InvalidInput: they cannot be used.
    """
    evaluation = body.evaluation
    named: list[tuple[str, type[ModelRow | DatasetRow], str | None]] = [
        ("/model_id", ModelRow, body.model_id),
        ("/dataset_id", DatasetRow, body.dataset_id),
        ("/evaluation/triggered_dataset_id", DatasetRow, evaluation.triggered_dataset_id if evaluation else None),
        ("/evaluation/clean_dataset_id", DatasetRow, evaluation.clean_dataset_id if evaluation else None),
    ]
    missing, unusable = [], []
    # In the order of their ids, so that two requests never wait for each other.
    for pointer, table, id in sorted(named, key=lambda entry: entry[2] or ""):
        if id is None:
            continue
        row = find_owned(session, table, caller.tenant_id, table.id == id, lock=True)
        other = DatasetRow if table is ModelRow else ModelRow
        if row is None and find_owned(session, other, caller.tenant_id, other.id == id) is None:
            missing.append(InputFault(pointer=pointer, detail=f"there is no {_NOUNS[table]} {id!r} here"))
        elif row is None:
            unusable.append(InputFault(pointer=pointer, detail=f"{id} is a {_NOUNS[other]}; name a {_NOUNS[table]}"))
        elif row.status == "rejected":
            unusable.append(InputFault(pointer=pointer, detail=f"{id} was rejected by its inspection; its `findings` say why"))
    for faults, problem in ((missing, NotFound), (unusable, InvalidInput)):
        if faults:
            faults.sort(key=lambda fault: fault.pointer)
            raise problem("; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults), errors=faults)


def _listener(session: Session, runtime: Runtime, job: JobRow, url: str) -> WebhookRow:
    try:
        parse_url(url, reach=runtime.settings.webhook_reach)
    except AddressRefused as refusal:
        raise InvalidInput.at("/webhook_url", str(refusal)) from refusal
    now = database_now(session)
    job.webhook_id = new_id("wh")
    return WebhookRow(
        id=job.webhook_id,
        tenant_id=job.tenant_id,
        job_id=job.id,
        url=url,
        description=f"webhook_url of {job.id}",
        events=JOB_EVENTS,
        created_at=now,
        updated_at=now,
    )
