"""Keep stored bytes for as long as somebody needs them, and no longer.

An owner (an upload, model, data set or artifact) holds its blobs by references. Releasing only removes references: the bytes
are deleted afterwards by `sweep`, right after the commit and again by housekeeping, so a crash in between loses nothing but time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from app.blobs import repository
from app.blobs.tables import BlobRow
from app.ids import new_id
from app.storage import ObjectStore

log = structlog.get_logger()

SWEEP_AT_ONCE = 500


def adopt(session: Session, *, tenant_id: str, owner_id: str, key: str, sha256: str, bytes: int) -> BlobRow:
    """Register the object stored at `key` as needed by `owner_id`. Doing so twice is doing it once."""
    blob = repository.find_by_key(session, tenant_id, key)
    if blob is None:
        blob = _new_blob(tenant_id, key, sha256, bytes)
        try:
            with session.begin_nested():
                session.add(blob)
        except IntegrityError:  # somebody else was adopting it at the same moment
            blob = repository.get_by_key(session, tenant_id, key)
    repository.add_references(session, owner_id, [blob.id])
    return blob


def discard(session: Session, *, tenant_id: str, key: str, sha256: str, bytes: int) -> None:
    """Register the object stored at `key` as needed by nobody, unless it is registered. Call `sweep` after the commit."""
    if repository.find_by_key(session, tenant_id, key) is None:
        session.add(_new_blob(tenant_id, key, sha256, bytes))


def hold(session: Session, blobs: Iterable[BlobRow], owner_id: str) -> None:
    """`owner_id` needs these blobs too. The caller has them from a `lock_needed…` of this transaction."""
    repository.add_references(session, owner_id, [blob.id for blob in blobs])


def release(session: Session, *owner_ids: str) -> None:
    """These owners need nothing any more. Call `sweep` after the commit."""
    repository.remove_references(session, owner_ids)


def sweep(sessions: sessionmaker[Session], store: ObjectStore) -> int:
    """Delete the bytes that nobody needs, each in a transaction of its own; returns how many objects went.

    Raises nothing of the store's: what could not be deleted is tried again by the next sweep.
    """
    with sessions.begin() as session:
        ids = repository.unneeded_ids(session, limit=SWEEP_AT_ONCE)
    deleted = 0
    for blob_id in ids:
        try:
            deleted += _delete_if_unneeded(sessions, store, blob_id)
        except Exception as error:  # noqa: BLE001  (whatever the store raises)
            log.warning("blob.not_deleted", blob_id=blob_id, error=str(error))
    return deleted


def _new_blob(tenant_id: str, key: str, sha256: str, bytes: int) -> BlobRow:
    return BlobRow(id=new_id("blob"), tenant_id=tenant_id, key=key, sha256=sha256, bytes=bytes, created_at=datetime.now(UTC))


def _delete_if_unneeded(sessions: sessionmaker[Session], store: ObjectStore, blob_id: str) -> bool:
    with sessions.begin() as session:
        blob = repository.lock_unneeded(session, blob_id)
        if blob is None:
            return False
        # The object first: if we die here, the row is still there to try again by.
        store.delete(blob.key)
        session.delete(blob)
        return True
