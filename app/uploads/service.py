"""Files on their way in: cut into parts that go straight to storage, checked when they are complete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from app.audit.service import record_audit
from app.auth.service import Caller
from app.blobs import repository as blobs_repository
from app.blobs.service import hold, release, sweep
from app.db import database_now
from app.errors import Conflict, InvalidInput, PayloadTooLarge
from app.ids import new_id
from app.jobs.outbox import ring
from app.quotas.service import admit_upload
from app.repository import get_owned
from app.runtime import Runtime
from app.storage import ObjectNotFound, Part
from app.uploads import repository
from app.uploads.parts import check_stated, digest_of, join_digests
from app.uploads.schemas import UploadCreate, UploadResource
from app.uploads.showing import show_new, show_upload
from app.uploads.sizes import choose_part_size
from app.uploads.tables import UploadRow

log = structlog.get_logger()

ORPHANED_AFTER = timedelta(hours=24)
"""Age of a multipart upload that belongs to no open upload of ours and will not any more: no worker stores one file for so long."""


def create_upload(session: Session, runtime: Runtime, caller: Caller, body: UploadCreate) -> UploadResource:
    """Begin a multipart upload, or give out one that is completed where the tenant has these very bytes already.

    Raises:
        InvalidInput: the stated parts do not make the file.
        PayloadTooLarge: a single file may not be that large here.
        QuotaExceeded: the tenant's quota of open uploads or stored bytes is used up.
    """
    settings = runtime.settings
    part_size = choose_part_size(body.bytes, settings.part_size) if body.parts is None else check_stated(body.parts, body.bytes)
    if body.bytes > settings.max_upload_bytes:
        raise PayloadTooLarge(f"A single file may have {settings.max_upload_bytes} bytes here, not {body.bytes}.")
    now = datetime.now(UTC)
    upload_id = new_id("upl")
    upload = UploadRow(
        id=upload_id,
        tenant_id=caller.tenant_id,
        filename=body.filename,
        bytes=body.bytes,
        sha256=body.sha256,
        part_size=part_size,
        part_digests=None if body.parts is None else join_digests(body.parts),
        status="open",
        key=f"tenants/{caller.tenant_id}/uploads/{upload_id}",
        multipart_id="",
        created_at=now,
        expires_at=now + timedelta(seconds=settings.upload_lifetime_seconds),
    )
    known = blobs_repository.lock_needed(session, caller.tenant_id, [body.sha256]).get(body.sha256) if body.sha256 is not None else None
    if known is not None and known.bytes == body.bytes:
        hold(session, [known], upload.id)
        upload.status, upload.blob_id, upload.completed_at, upload.part_digests = "completed", known.id, now, None
    else:
        admit_upload(session, settings, caller.tenant_id, body.bytes)
        upload.multipart_id = runtime.store.start_multipart(upload.key, digests=upload.part_digests is not None)
    session.add(upload)
    record_audit(session, caller.tenant_id, caller.key_id, "upload.created", upload.id)
    session.flush()
    return show_new(runtime, upload)


def get_upload(session: Session, runtime: Runtime, caller: Caller, upload_id: str) -> UploadResource:
    upload = get_owned(session, UploadRow, caller.tenant_id, upload_id)
    session.close()  # asking the store may take a while
    return show_upload(runtime, upload)


def take_part(runtime: Runtime, upload: UploadRow, number: int, path: Path, sha256: str) -> Part:
    """Hand a part that lies on disk to the store. sha256: what its bytes are.

    Raises:
        InvalidInput: its sender stated other bytes.
        Conflict: the upload was completed or aborted meanwhile.
    """
    stated = digest_of(upload, number)
    if sha256 != (stated or sha256):
        raise InvalidInput(f"Part {number} has the SHA-256 {stated}, as stated when the upload was created; what came has {sha256}.")
    try:
        return runtime.store.put_part(upload.key, upload.multipart_id, number, path)
    except ObjectNotFound as error:
        raise Conflict("This upload takes no more parts.") from error


def delete_upload(runtime: Runtime, caller: Caller, upload_id: str) -> None:
    """Abort an open upload, or forget a completed one. Models and data sets made of it keep their bytes."""
    with runtime.write.begin() as session:
        upload = get_owned(session, UploadRow, caller.tenant_id, upload_id, lock=True)
        _forget(session, runtime, upload)
        record_audit(session, caller.tenant_id, caller.key_id, "upload.deleted", upload.id)
    sweep(runtime.write, runtime.store)


def drop_expired(runtime: Runtime, *, limit: int = 100) -> int:
    """Housekeeping: delete uploads that were begun and never used; returns how many went. What fails is tried again by the next round."""
    with runtime.read() as session:
        ids = [upload.id for upload in repository.expired(session, now=datetime.now(UTC), limit=limit)]
    dropped = 0
    for upload_id in ids:
        try:
            with runtime.write.begin() as session:
                upload = repository.lock_expired(session, upload_id, now=datetime.now(UTC))
                if upload is not None:
                    _forget(session, runtime, upload)
                    dropped += 1
        except Exception as error:  # noqa: BLE001  (whatever the store raises)
            log.warning("upload.not_dropped", upload_id=upload_id, error=str(error))
    return dropped


def drop_orphans(runtime: Runtime, *, older_than: timedelta = ORPHANED_AFTER) -> int:
    """Housekeeping: abort multipart uploads in the store that no open upload of ours stands for; returns how many.

    They are left where a process died between beginning one and committing its row, or while it stored a large result.
    """
    before = datetime.now(UTC) - older_than
    dropped = 0
    for multipart in runtime.store.open_multiparts():
        if multipart.started_at > before:
            continue
        with runtime.read() as session:
            upload = repository.find_upload(session, multipart.key.rpartition("/")[2])
        if upload is not None and upload.status == "open" and upload.multipart_id == multipart.multipart_id:
            continue
        try:
            runtime.store.abort_multipart(multipart.key, multipart.multipart_id)
            dropped += 1
        except Exception as error:  # noqa: BLE001  (whatever the store raises)
            log.warning("multipart.not_dropped", key=multipart.key, error=str(error))
    return dropped


def _forget(session: Session, runtime: Runtime, upload: UploadRow) -> None:
    if upload.status == "open":
        runtime.store.abort_multipart(upload.key, upload.multipart_id)
        runtime.store.delete(upload.key)
        if upload.completing_until is not None:
            # Whoever completes it may be about to make the object, and may die before it finds that the upload is gone.
            ring(session, "sweep", "io", upload.key, now=database_now(session))
    release(session, upload.id)
    session.delete(upload)
