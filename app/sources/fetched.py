"""What a worker writes down while it fetches the files of a model or data set. Every write is guarded by the step's lease."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Session

from app.blobs import repository as blobs_repository
from app.blobs.service import adopt, hold
from app.datasets.tables import DatasetRow
from app.jobs.inspections import find_input
from app.jobs.leases import Lease, LeaseLost, lock_step, save_checkpoint, save_progress
from app.jobs.tables import StepRow
from app.models.tables import ModelRow
from app.quotas.service import admit_bytes
from app.settings import Settings
from app.sources.service import ManifestFile


def reserve_bytes(session: Session, settings: Settings, lease: Lease, tenant_id: str, bytes: int) -> None:
    """Keep room for what is about to be fetched: until it is stored, or the step ends, it counts as if it were.

    Raises:
        QuotaExceeded: it does not fit.
        LeaseLost: the step is no longer ours.
    """
    step = lock_step(session, lease)
    admit_bytes(session, settings, tenant_id, bytes)
    step.reserved_bytes = bytes


def note_progress(session: Session, lease: Lease, subject_id: str, done: int, total: int) -> None:
    """Let the owner see how many bytes have arrived.

    Raises:
        LeaseLost: the step is no longer ours, or the subject was deleted.
    """
    progress = {"done": done, "total": total, "unit": "bytes"}
    save_progress(session, lease, progress)
    _subject(session, lease, subject_id).inspection = {"progress": progress}


def hold_known(session: Session, lease: Lease, subject_id: str, digests: Iterable[str]) -> dict[str, str]:
    """Keys, by digest, of those bytes that the tenant has stored already. The subject holds them from now on.

    Raises:
        LeaseLost: the step is no longer ours, or the subject was deleted.
    """
    lock_step(session, lease)
    subject = _subject(session, lease, subject_id)
    known = blobs_repository.lock_needed(session, subject.tenant_id, {*digests})
    hold(session, known.values(), subject.id)
    return {sha256: blob.key for sha256, blob in known.items()}


def keep_files(
    session: Session, lease: Lease, subject_id: str, files: list[ManifestFile], checkpoint: dict[str, Any], *, bytes_left: int
) -> None:
    """These files are stored and checked: the subject holds their bytes, and no later attempt fetches them again.

    bytes_left: how many are still to come.

    Raises:
        LeaseLost: the step is no longer ours, or the subject was deleted.
    """
    save_checkpoint(session, lease, checkpoint)
    session.get_one(StepRow, lease.step_id).reserved_bytes = bytes_left
    subject = _subject(session, lease, subject_id)
    _adopt(session, subject, files)


def finish_fetch(
    session: Session, lease: Lease, subject_id: str, files: list[ManifestFile], pinned: dict[str, str], checkpoint: dict[str, Any]
) -> None:
    """All is here: from now on it is as if the files had been uploaded.

    Raises:
        LeaseLost: the step is no longer ours, or the subject was deleted.
    """
    save_checkpoint(session, lease, checkpoint)
    session.get_one(StepRow, lease.step_id).reserved_bytes = None
    subject = _subject(session, lease, subject_id)
    held = blobs_repository.keys_held(session, subject.id)
    _adopt(session, subject, [file for file in files if file["key"] not in held])
    subject.files, subject.source = [dict(file) for file in files], {**subject.source, **pinned}


def _adopt(session: Session, subject: ModelRow | DatasetRow, files: Iterable[ManifestFile]) -> None:
    for file in files:
        adopt(session, tenant_id=subject.tenant_id, owner_id=subject.id, key=file["key"], sha256=file["sha256"], bytes=file["bytes"])


def _subject(session: Session, lease: Lease, subject_id: str) -> ModelRow | DatasetRow:
    subject = find_input(session, subject_id, lock=True)
    if subject is None:
        raise LeaseLost(lease.step_id)
    return subject
