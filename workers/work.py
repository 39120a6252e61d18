"""All that a claimed step needs to know, read from the database in one go, so that no transaction stays open while it runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import TypeAdapter
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.datasets.tables import DatasetRow
from app.jobs.inspections import find_input
from app.jobs.leases import Lease, LeaseLost
from app.jobs.plan import SHARDED
from app.jobs.tables import JobRow, StepRow
from app.models.tables import ModelRow
from gpu_jobs.config import JobParameters, StepKind, Target
from gpu_jobs.errors import InputError
from workers.cache import ManifestFile

# Files of a model or data set: as `ManifestFile`, and `archive` true for a zip to be unpacked.
Files = Sequence[dict[str, Any]]

_TARGET: TypeAdapter[Target] = TypeAdapter(Target)


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """A step whose outputs this one may read."""

    kind: StepKind
    shard: int
    files: list[ManifestFile]
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """One step of a job. `model`, `dataset` and the evaluation sets are manifests; None where the job has none."""

    step_id: str
    job_id: str
    tenant_id: str
    kind: StepKind
    shard: int
    shards: int
    parameters: JobParameters
    model: Files | None
    dataset: Files | None
    triggered: Files | None
    clean: Files | None
    target: Target | None
    previous: list[FinishedStep]
    checkpoint: dict[str, Any] | None
    about: dict[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return f"jobs/{self.job_id}/steps/{self.step_id}"

    def previous_by_kind(self) -> dict[StepKind, list[FinishedStep]]:
        """The finished steps, in shard order."""
        found: dict[StepKind, list[FinishedStep]] = defaultdict(list)
        for step in sorted(self.previous, key=lambda step: step.shard):
            found[step.kind].append(step)
        return dict(found)


@dataclass(frozen=True, slots=True)
class InspectionWork:
    """The inspection of a model or data set. `files` is empty as long as they are still to be fetched from `source`."""

    step_id: str
    tenant_id: str
    kind: str
    subject_id: str
    source: dict[str, Any]
    files: Files
    checkpoint: dict[str, Any] | None = None

    @property
    def prefix(self) -> str:
        return f"inspections/{self.subject_id}/steps/{self.step_id}"


def load_work(session: Session, lease: Lease) -> Work:
    """What the step of a job needs.

    Raises:
        LeaseLost: the job was deleted.
        gpu_jobs.errors.InputError: one of its inputs was deleted.
    """
    step = session.get(StepRow, lease.step_id)
    job = session.get(JobRow, lease.job_id)
    if step is None or job is None:
        raise LeaseLost(lease.step_id)
    model, dataset = _input(session, job.model_id), _input(session, job.dataset_id)
    return Work(
        step_id=step.id,
        job_id=job.id,
        tenant_id=job.tenant_id,
        kind=cast(StepKind, step.kind),
        shard=step.shard,
        shards=step.shards,
        parameters=JobParameters.model_validate(job.parameters),
        model=_files(model),
        dataset=_files(dataset),
        triggered=_files(_input(session, job.triggered_dataset_id)),
        clean=_files(_input(session, job.clean_dataset_id)),
        target=None if job.target is None else _TARGET.validate_python(job.target),
        previous=_previous(session, step),
        checkpoint=step.checkpoint,
        about=_about(job, model, dataset),
    )


def load_inspection(session: Session, lease: Lease) -> InspectionWork | None:
    """What an inspection needs; None if its subject was deleted.

    Raises:
        LeaseLost: the step was deleted.
    """
    step = session.get(StepRow, lease.step_id)
    if step is None:
        raise LeaseLost(lease.step_id)
    subject = find_input(session, step.subject_id)
    if subject is None:
        return None
    return InspectionWork(step.id, step.tenant_id, step.kind, subject.id, subject.source, subject.files, step.checkpoint)


def _previous(session: Session, step: StepRow) -> list[FinishedStep]:
    """The steps before this one, but for the shards of a stage that the next one has put together: only the report reads those again.

    Were they read by every shard of a later stage, their number would count squared.
    """
    found = select(StepRow.kind, StepRow.shard, StepRow.outputs, StepRow.result).where(
        StepRow.job_id == step.job_id, StepRow.position < step.position
    )
    if step.kind != "publish":
        found = found.where(or_(StepRow.kind.not_in(SHARDED), StepRow.position == step.position - 1))
    rows = session.execute(found)
    return [
        FinishedStep(cast(StepKind, kind), shard, (outputs or {}).get("files", []), result or {}) for kind, shard, outputs, result in rows
    ]


def _input(session: Session, id: str | None) -> ModelRow | DatasetRow | None:
    if id is None:
        return None
    found = find_input(session, id)
    if found is None:
        raise InputError(f"{id} was deleted while the job was running")
    return found


def _files(row: ModelRow | DatasetRow | None) -> Files | None:
    return None if row is None else row.files


def _about(job: JobRow, model: ModelRow | DatasetRow | None, dataset: ModelRow | DatasetRow | None) -> dict[str, str]:
    about = {"job_id": job.id, "kind": job.kind, "created_at": job.created_at.isoformat()}
    for noun, row in (("model", model), ("dataset", dataset)):
        if row is not None:
            about |= {f"{noun}_id": row.id, f"{noun}_name": row.name}
    return about
