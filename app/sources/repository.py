"""SQL that finds the files behind a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.artifacts.tables import ArtifactRow
from app.datasets.tables import DatasetRow
from app.db import chunked
from app.jobs.tables import StepRow
from app.models.tables import ModelRow
from app.repository import owned
from app.uploads.tables import UploadRow


def find_uploads(session: Session, tenant_id: str, ids: Sequence[str]) -> dict[str, UploadRow]:
    found: dict[str, UploadRow] = {}
    for some in chunked(sorted(set(ids))):
        rows = session.scalars(select(UploadRow).where(owned(UploadRow, tenant_id), UploadRow.id.in_(some)))
        found |= {row.id: row for row in rows}
    return found


def find_folder(session: Session, artifact: ArtifactRow) -> Sequence[ArtifactRow]:
    """The artifact and, where its name lies in a folder, everything else in that folder of the same job."""
    folder, slash, _ = artifact.name.partition("/")
    if not slash:
        return [artifact]
    inside = ArtifactRow.name.startswith(folder + slash, autoescape=True)
    return session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == artifact.job_id, inside).order_by(ArtifactRow.name)).all()


def lock_inspections(session: Session, tenant_id: str, subject_id: str) -> None:
    """Keep a worker from completing an inspection of the subject, and from noting anything about it, until the transaction ends.

    Before the subject itself is locked: workers lock the two in this order.
    """
    inspections = select(StepRow.id).where(StepRow.subject_id == subject_id, StepRow.job_id.is_(None), owned(StepRow, tenant_id))
    session.execute(inspections.order_by(StepRow.id).with_for_update())


def last_failures(session: Session, subjects: Sequence[ModelRow] | Sequence[DatasetRow]) -> Mapping[str, str]:
    """Of those that are still inspected, and of which an attempt came to nothing: what that attempt failed by."""
    ids = [subject.id for subject in subjects if subject.status == "inspecting"]
    if not ids:
        return {}
    inspections = (StepRow.subject_id.in_(ids), StepRow.job_id.is_(None), StepRow.status.in_(("ready", "running")))
    found = session.execute(select(StepRow.subject_id, StepRow.error).where(*inspections)).all()
    return {subject_id: error["detail"] for subject_id, error in found if error is not None and "detail" in error}


def delete_inspections(session: Session, subject_id: str) -> None:
    """A worker that is inspecting the subject loses its lease and stops."""
    session.execute(delete(StepRow).where(StepRow.subject_id == subject_id, StepRow.job_id.is_(None)))
