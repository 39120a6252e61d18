"""SQL about blobs and the references that keep them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from app.blobs.tables import BlobReferenceRow, BlobRow

_IS_NEEDED = exists().where(BlobReferenceRow.blob_id == BlobRow.id)


def lock_needed(session: Session, tenant_id: str, sha256: str) -> BlobRow | None:
    """A blob with these bytes that somebody needs, kept from being deleted until the transaction ends.

    One that nobody needs is as good as gone, and is never taken up again.
    """
    query = select(BlobRow).where(BlobRow.tenant_id == tenant_id, BlobRow.sha256 == sha256, _IS_NEEDED).order_by(BlobRow.id).limit(1)
    return _locked_if_needed(session, session.scalars(query).first())


def lock_needed_by_id(session: Session, tenant_id: str, blob_id: str) -> BlobRow | None:
    query = select(BlobRow).where(BlobRow.tenant_id == tenant_id, BlobRow.id == blob_id)
    return _locked_if_needed(session, session.scalars(query).first())


def find_by_key(session: Session, tenant_id: str, key: str) -> BlobRow | None:
    return session.scalars(select(BlobRow).where(BlobRow.tenant_id == tenant_id, BlobRow.key == key)).one_or_none()


def get_by_key(session: Session, tenant_id: str, key: str) -> BlobRow:
    return session.scalars(select(BlobRow).where(BlobRow.tenant_id == tenant_id, BlobRow.key == key)).one()


def lock_unneeded(session: Session, blob_id: str) -> BlobRow | None:
    """The blob, locked, if nobody needs it and no other process is deleting it."""
    locked = session.scalars(select(BlobRow).where(BlobRow.id == blob_id).with_for_update(skip_locked=True)).one_or_none()
    return None if locked is None or is_needed(session, blob_id) else locked


def unneeded_ids(session: Session, *, limit: int) -> Sequence[str]:
    return session.scalars(select(BlobRow.id).where(~_IS_NEEDED).limit(limit)).all()


def is_needed(session: Session, blob_id: str) -> bool:
    return session.execute(select(BlobReferenceRow.blob_id).where(BlobReferenceRow.blob_id == blob_id).limit(1)).first() is not None


def add_reference(session: Session, blob_id: str, owner_id: str) -> None:
    if session.get(BlobReferenceRow, (blob_id, owner_id)) is None:
        session.add(BlobReferenceRow(blob_id=blob_id, owner_id=owner_id))
        session.flush()


def remove_references(session: Session, owner_id: str) -> None:
    session.execute(delete(BlobReferenceRow).where(BlobReferenceRow.owner_id == owner_id))


def stored_bytes(session: Session, tenant_id: str) -> int:
    total = session.execute(select(func.coalesce(func.sum(BlobRow.bytes), 0)).where(BlobRow.tenant_id == tenant_id)).scalar_one()
    return int(total)


def _locked_if_needed(session: Session, blob: BlobRow | None) -> BlobRow | None:
    if blob is None:
        return None
    # Asked again under the lock: the last reference may have gone while we waited for it.
    locked = session.scalars(select(BlobRow).where(BlobRow.id == blob.id).with_for_update()).one_or_none()
    return locked if locked is not None and is_needed(session, locked.id) else None
