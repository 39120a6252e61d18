"""What models and data sets have in common: files from a source, an inspection, and bytes to let go of in the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict, TypeVar

from sqlalchemy.orm import Session

from app.artifacts.tables import ArtifactRow
from app.audit.service import record_audit
from app.auth.service import Caller
from app.blobs import repository as blobs_repository
from app.blobs.service import adopt, hold, release, sweep
from app.blobs.tables import BlobRow
from app.datasets.tables import DatasetRow
from app.db import database_now
from app.errors import Conflict, InputFault, InvalidInput, NotFound
from app.ids import new_id
from app.jobs.inspections import InspectionKind, queue_inspection
from app.jobs.outbox import ring
from app.jobs.repository import unfinished_jobs_reading
from app.jobs.tables import JobRow
from app.models.tables import ModelRow
from app.repository import get_owned
from app.runtime import Runtime
from app.sources import repository
from app.sources.paths import find_clash
from app.sources.schemas import ArtifactSource, Source, UploadSource

Subject = TypeVar("Subject", ModelRow, DatasetRow)


@dataclass(frozen=True, slots=True)
class _Noun:
    name: str
    prefix: str
    inspection: InspectionKind


_NOUNS: dict[type[ModelRow | DatasetRow], _Noun] = {
    ModelRow: _Noun("model", "model", "inspect_model"),
    DatasetRow: _Noun("dataset", "dset", "inspect_dataset"),
}


class ManifestFile(TypedDict):
    """One entry of `files`: where it lies in the folder and in the object store. An archive is unpacked into the folder.

    etag, version_id: of the file at the source it was fetched from.
    """

    path: str
    key: str
    sha256: str
    bytes: int
    archive: bool
    etag: NotRequired[str]
    version_id: NotRequired[str]


def register(session: Session, caller: Caller, table: type[Subject], name: str, source: Source) -> Subject:
    """A new row in status `inspecting`, its bytes held, its inspection queued: all in the caller's transaction.

    Raises:
        NotFound: the source names an upload or artifact that is not there.
        Conflict: an upload is not complete, or its bytes are gone.
        InvalidInput: the files cannot lie side by side in one folder.
    """
    noun = _NOUNS[table]
    subject_id = new_id(noun.prefix)
    files = _take_files(session, caller.tenant_id, source, subject_id)
    now = datetime.now(UTC)
    subject = table(
        id=subject_id,
        tenant_id=caller.tenant_id,
        name=name,
        status="inspecting",
        source=_shown(source),
        files=files,
        inspection={},
        findings=[],
        created_at=now,
        updated_at=now,
    )
    session.add(subject)
    session.flush()
    queue_inspection(session, tenant_id=caller.tenant_id, subject_id=subject_id, kind=noun.inspection)
    record_audit(session, caller.tenant_id, caller.key_id, f"{noun.name}.created", subject_id)
    return subject


def remove(runtime: Runtime, caller: Caller, table: type[Subject], subject_id: str) -> None:
    """Delete the row, and its bytes that nothing else needs.

    Raises:
        Conflict: a job that is not finished reads it.
    """
    with runtime.write.begin() as session:
        repository.lock_inspections(session, caller.tenant_id, subject_id)
        subject = get_owned(session, table, caller.tenant_id, subject_id, lock=True)
        jobs = unfinished_jobs_reading(session, caller.tenant_id, subject_id)
        if jobs:
            raise Conflict(f"{len(jobs)} unfinished jobs use {subject_id}: {', '.join(jobs[:5])}. Wait for them, or cancel them first.")
        repository.delete_inspections(session, subject_id)
        release(session, subject_id)
        session.delete(subject)
        record_audit(session, caller.tenant_id, caller.key_id, f"{_NOUNS[table].name}.deleted", subject_id)
        # A worker deletes what inspections stored, such as thumbnails: an attempt may be storing some at this moment.
        ring(session, "sweep", "io", subject_id, now=database_now(session))
    sweep(runtime.write, runtime.store)


def _take_files(session: Session, tenant_id: str, source: Source, owner_id: str) -> list[ManifestFile]:
    if isinstance(source, UploadSource):
        return _take_uploads(session, tenant_id, source, owner_id)
    if isinstance(source, ArtifactSource):
        return _take_artifact(session, tenant_id, source, owner_id)
    return []  # a worker fetches them before it inspects them


def _take_uploads(session: Session, tenant_id: str, source: UploadSource, owner_id: str) -> list[ManifestFile]:
    uploads = repository.find_uploads(session, tenant_id, [file.upload_id for file in source.files])
    missing = [
        InputFault(pointer=f"/source/files/{index}/upload_id", detail=f"there is no upload {file.upload_id!r} here")
        for index, file in enumerate(source.files)
        if file.upload_id not in uploads
    ]
    if missing:
        raise NotFound("; ".join(fault.detail for fault in missing[:5]), errors=missing[:100])
    paths = [file.path or uploads[file.upload_id].filename for file in source.files]
    clash = find_clash(paths)
    if clash is not None:
        raise InvalidInput.at(f"/source/files/{clash[0]}/path", clash[1])
    chosen = [(path, uploads[file.upload_id]) for path, file in zip(paths, source.files, strict=True)]
    for _, upload in chosen:
        if upload.status != "completed":
            raise Conflict(f"The upload {upload.id} is not complete: send its missing parts and POST /v1/uploads/{upload.id}/complete.")
    blobs = blobs_repository.lock_needed_by_ids(session, tenant_id, {upload.blob_id for upload in uploads.values() if upload.blob_id})
    for upload in uploads.values():
        if upload.blob_id not in blobs:
            raise Conflict(f"The bytes of {upload.id} are gone: what it was used for was deleted. Upload the file again.")
    hold(session, blobs.values(), owner_id)
    release(session, *uploads)  # from now on the bytes live and die with what was made of them
    entries = (_entry(path, blobs[upload.blob_id or ""]) for path, upload in chosen)
    return sorted(entries, key=lambda entry: entry["path"])


def _take_artifact(session: Session, tenant_id: str, source: ArtifactSource, owner_id: str) -> list[ManifestFile]:
    try:
        artifact = get_owned(session, ArtifactRow, tenant_id, source.artifact_id)
        # Whoever deletes the job waits until we hold the bytes too; if that has begun, the artifact is gone once we have the lock.
        get_owned(session, JobRow, tenant_id, artifact.job_id, lock=True)
        artifact = get_owned(session, ArtifactRow, tenant_id, source.artifact_id, lock=True)
    except NotFound as error:
        fault = InputFault(pointer="/source/artifact_id", detail=f"there is no artifact {source.artifact_id!r} here")
        raise NotFound(fault.detail, errors=[fault]) from error
    files = []
    for found in repository.find_folder(session, artifact):
        for owner in (found.id, owner_id):
            adopt(session, tenant_id=tenant_id, owner_id=owner, key=found.key, sha256=found.sha256, bytes=found.bytes)
        # `model/config.json` becomes `config.json`: the folder is what is registered.
        path = found.name.partition("/")[2] or found.name
        files.append(_entry(path, found))
    return files


def is_archive(path: str) -> bool:
    """Whether a file of this name is unpacked into its folder."""
    return path.lower().endswith(".zip")


def _entry(path: str, stored: BlobRow | ArtifactRow) -> ManifestFile:
    return ManifestFile(path=path, key=stored.key, sha256=stored.sha256, bytes=stored.bytes, archive=is_archive(path))


def _shown(source: Source) -> dict[str, Any]:
    """What is kept of the source. The list of files stands in `files` already."""
    if isinstance(source, UploadSource):
        return {"type": "upload", "upload_ids": sorted({file.upload_id for file in source.files})[:100]}
    return source.model_dump(mode="json")
