"""An upload as its client sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from app.runtime import Runtime
from app.storage import ObjectNotFound, Part
from app.uploads.parts import digest_of, part_link
from app.uploads.schemas import PartResource, UploadResource, UploadStatus, UploadSummary
from app.uploads.sizes import part_sizes
from app.uploads.tables import UploadRow


def show_summary(upload: UploadRow) -> UploadSummary:
    return UploadSummary(**_common(upload))


def show_upload(runtime: Runtime, upload: UploadRow) -> UploadResource:
    """With its parts while it is open, after a look into the store: have no transaction open."""
    if _status(upload) != "open":
        return UploadResource(**_common(upload), parts=[])
    received = {part.number for part in arrived_parts(runtime, upload)}
    if not received and is_assembled(runtime, upload):  # by a completion that broke off
        received = set(range(1, len(part_sizes(upload.bytes, upload.part_size)) + 1))
    return _with_parts(runtime, upload, received)


def show_new(runtime: Runtime, upload: UploadRow) -> UploadResource:
    """One whose parts nobody can have sent yet: the store need not be asked."""
    return _with_parts(runtime, upload, set()) if upload.status == "open" else UploadResource(**_common(upload), parts=[])


def arrived_parts(runtime: Runtime, upload: UploadRow) -> list[Part]:
    """Those in the store that are of the right size; none where the multipart upload is over."""
    try:
        parts = runtime.store.list_parts(upload.key, upload.multipart_id)
    except ObjectNotFound:
        return []
    sizes = part_sizes(upload.bytes, upload.part_size)
    return [
        Part(part.number, part.bytes, part.etag, digest_of(upload, part.number))
        for part in parts
        if 1 <= part.number <= len(sizes) and part.bytes == sizes[part.number - 1]
    ]


def is_assembled(runtime: Runtime, upload: UploadRow) -> bool:
    try:
        return runtime.store.size(upload.key) == upload.bytes
    except ObjectNotFound:
        return False


def _with_parts(runtime: Runtime, upload: UploadRow, received: set[int]) -> UploadResource:
    parts = []
    for number, size in enumerate(part_sizes(upload.bytes, upload.part_size), start=1):
        if number in received:
            parts.append(PartResource(number=number, bytes=size, received=True, url=None, headers={}))
        else:
            link = part_link(runtime, upload, number)
            parts.append(PartResource(number=number, bytes=size, received=False, url=link.url, headers=link.headers))
    return UploadResource(**_common(upload), parts=parts)


def _status(upload: UploadRow) -> UploadStatus:
    if upload.status == "completed":
        return "completed"
    # By our own clock, which may differ from the database's: this is for people. Who completes is decided by the database's.
    return "completing" if upload.completing_until is not None and upload.completing_until > datetime.now(UTC) else "open"


def _common(upload: UploadRow) -> dict[str, Any]:
    return {
        "id": upload.id,
        "status": _status(upload),
        "filename": upload.filename,
        "bytes": upload.bytes,
        "sha256": upload.sha256,
        "part_size": upload.part_size,
        "failure": upload.failure,
        "created_at": upload.created_at,
        "expires_at": upload.expires_at,
        "completed_at": upload.completed_at,
    }
