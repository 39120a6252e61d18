"""Files on their way in: cut into parts that go straight to storage, checked when they are complete."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, cast

import structlog
from sqlalchemy.orm import Session

from app.audit.service import record_audit
from app.auth.service import Caller
from app.blobs import repository as blobs_repository
from app.blobs.service import adopt, hold, release, sweep
from app.errors import Conflict, InvalidInput, PayloadTooLarge
from app.ids import new_id
from app.quotas.service import admit_upload
from app.repository import get_owned
from app.runtime import Runtime
from app.storage import ObjectNotFound, Part, PartMissing
from app.uploads import repository
from app.uploads.parts import choose_part_size, part_link, part_sizes
from app.uploads.schemas import PartResource, UploadCreate, UploadResource
from app.uploads.tables import UploadRow

log = structlog.get_logger()


def create_upload(session: Session, runtime: Runtime, caller: Caller, body: UploadCreate) -> UploadResource:
    """Begin a multipart upload.

    Raises:
        PayloadTooLarge: a single file may not be that large here.
        QuotaExceeded: the tenant's quota of open uploads or stored bytes is used up.
    """
    _check_quota(session, runtime, caller.tenant_id, body.bytes)
    now = datetime.now(UTC)
    upload_id = new_id("upl")
    key = f"tenants/{caller.tenant_id}/uploads/{upload_id}"
    upload = UploadRow(
        id=upload_id,
        tenant_id=caller.tenant_id,
        filename=body.filename,
        bytes=body.bytes,
        sha256=body.sha256,
        part_size=choose_part_size(body.bytes, runtime.settings.part_size),
        status="open",
        key=key,
        multipart_id=runtime.store.start_multipart(key),
        created_at=now,
        expires_at=now + timedelta(seconds=runtime.settings.upload_lifetime_seconds),
    )
    session.add(upload)
    record_audit(session, caller.tenant_id, caller.key_id, "upload.created", upload.id)
    session.flush()
    return _show(runtime, upload, [])


def get_upload(session: Session, runtime: Runtime, caller: Caller, upload_id: str) -> UploadResource:
    upload = get_owned(session, UploadRow, caller.tenant_id, upload_id)
    session.close()  # asking the store may take a while
    return _show(runtime, upload, _arrived(runtime, upload))


def take_part(runtime: Runtime, upload: UploadRow, number: int, path: Path) -> Part:
    """Hand a part that lies on disk to the store.

    Raises:
        Conflict: the upload was completed or aborted meanwhile.
    """
    try:
        return runtime.store.put_part(upload.key, upload.multipart_id, number, path)
    except ObjectNotFound as error:
        raise Conflict("This upload takes no more parts.") from error


def complete_upload(runtime: Runtime, caller: Caller, upload_id: str) -> UploadResource:
    """Put the parts together and check size and digest. Completing twice is no error.

    The bytes are read once, as a stream, with no transaction open. A wrong digest leaves the upload open with all its parts
    missing, so it can be sent again; nothing else ever sees the wrong bytes.

    Raises:
        Conflict: parts are missing, or somebody else is completing the upload.
        InvalidInput: the digest or the size is not what was announced.
    """
    with runtime.read() as session:
        upload = get_owned(session, UploadRow, caller.tenant_id, upload_id)
    if upload.status == "completed":
        return _show(runtime, upload, [])
    _assemble(runtime, upload)
    digest, size = _digest(runtime, upload.key)
    if size != upload.bytes or digest != (upload.sha256 or digest):
        _start_again(runtime, upload)
        raise InvalidInput.at(
            "/sha256" if size == upload.bytes else "/bytes",
            f"the parts make {size} bytes with sha256 {digest}; announced were {upload.bytes} bytes with sha256 {upload.sha256}. "
            "The upload is open again: send every part anew, or delete it.",
        )
    with runtime.write.begin() as session:
        fresh = get_owned(session, UploadRow, caller.tenant_id, upload_id, lock=True)
        duplicate = None
        if fresh.status == "open":
            duplicate = _register(session, fresh, digest)
            record_audit(session, caller.tenant_id, caller.key_id, "upload.completed", fresh.id)
    if duplicate is not None:
        runtime.store.delete(duplicate)
    return _show(runtime, fresh, [])


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
                upload = repository.lock_upload(session, upload_id)
                if upload is not None:
                    _forget(session, runtime, upload)
            dropped += 1
        except Exception as error:  # noqa: BLE001  (whatever the store raises)
            log.warning("upload.not_dropped", upload_id=upload_id, error=str(error))
    return dropped


def _check_quota(session: Session, runtime: Runtime, tenant_id: str, size: int) -> None:
    settings = runtime.settings
    if size > settings.max_upload_bytes:
        raise PayloadTooLarge(f"A single file may have {settings.max_upload_bytes} bytes here, not {size}.")
    admit_upload(session, settings, tenant_id, size)


def _arrived(runtime: Runtime, upload: UploadRow) -> list[Part]:
    if upload.status != "open":
        return []
    try:
        parts = runtime.store.list_parts(upload.key, upload.multipart_id)
    except ObjectNotFound:
        return []  # being completed or deleted right now
    sizes = part_sizes(upload.bytes, upload.part_size)
    return [part for part in parts if 1 <= part.number <= len(sizes) and part.bytes == sizes[part.number - 1]]


def _assemble(runtime: Runtime, upload: UploadRow) -> None:
    """Make the object, or find that an earlier attempt, whose process died, already has."""
    if upload.bytes == 0:
        runtime.store.put_bytes(upload.key, b"")  # no store makes an object of no parts
        return
    parts = _arrived(runtime, upload)
    missing = sorted(set(range(1, len(part_sizes(upload.bytes, upload.part_size)) + 1)) - {part.number for part in parts})
    try:
        if missing:
            if runtime.store.size(upload.key) == upload.bytes:
                return
            raise ObjectNotFound(upload.key)
        runtime.store.complete_multipart(upload.key, upload.multipart_id, parts)
    except PartMissing as error:
        raise Conflict("A part was replaced while the upload was being completed. Complete it again.") from error
    except ObjectNotFound as error:
        if not missing:
            raise Conflict("Somebody else is completing or deleting this upload. GET it to see.") from error
        listed = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
        raise Conflict(f"{len(missing)} parts have not arrived whole: {listed}. GET the upload for their links.") from error


def _digest(runtime: Runtime, key: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in runtime.store.open_range(key):
            digest.update(chunk)
            size += len(chunk)
    except ObjectNotFound as error:
        raise Conflict("The upload was deleted while it was being completed.") from error
    return digest.hexdigest(), size


def _start_again(runtime: Runtime, upload: UploadRow) -> None:
    with runtime.write.begin() as session:
        fresh = repository.lock_upload(session, upload.id)
        if fresh is not None and fresh.multipart_id == upload.multipart_id:
            runtime.store.delete(fresh.key)
            fresh.multipart_id = runtime.store.start_multipart(fresh.key)


def _register(session: Session, upload: UploadRow, digest: str) -> str | None:
    """Mark the upload completed; returns the key to delete where the tenant already had these bytes."""
    known = blobs_repository.lock_needed(session, upload.tenant_id, digest)
    if known is None:
        known = adopt(session, tenant_id=upload.tenant_id, owner_id=upload.id, key=upload.key, sha256=digest, bytes=upload.bytes)
    else:
        hold(session, [known], upload.id)
    upload.status, upload.sha256, upload.blob_id, upload.completed_at = "completed", digest, known.id, datetime.now(UTC)
    return upload.key if known.key != upload.key else None


def _forget(session: Session, runtime: Runtime, upload: UploadRow) -> None:
    if upload.status == "open":
        runtime.store.abort_multipart(upload.key, upload.multipart_id)
        runtime.store.delete(upload.key)
    release(session, upload.id)
    session.delete(upload)


def _show(runtime: Runtime, upload: UploadRow, arrived: list[Part]) -> UploadResource:
    received = {part.number for part in arrived}
    sizes = part_sizes(upload.bytes, upload.part_size) if upload.status == "open" else []
    parts = [
        PartResource(
            number=number,
            bytes=size,
            received=number in received,
            url=None if number in received else part_link(runtime, upload, number),
            headers={},
        )
        for number, size in enumerate(sizes, start=1)
    ]
    return UploadResource(
        id=upload.id,
        status=cast("Literal['open', 'completed']", upload.status),
        filename=upload.filename,
        bytes=upload.bytes,
        sha256=upload.sha256,
        part_size=upload.part_size,
        parts=parts,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        completed_at=upload.completed_at,
    )
