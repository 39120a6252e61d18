"""SQL about blobs and the references that keep them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from app.blobs.tables import BlobReferenceRow, BlobRow
from app.db import chunked
from app.repository import owned

_IS_NEEDED = exists().where(BlobReferenceRow.blob_id == BlobRow.id)


def lock_needed(session: Session, tenant_id: str, digests: Collection[str]) -> dict[str, BlobRow]:
    """For each SHA-256 a blob with these bytes that somebody needs, kept from being deleted until the transaction ends.

    One that nobody needs is as good as gone, and is never taken up again.
    """
    first: dict[str, str] = {}
    for some in chunked(sorted(set(digests))):
        query = select(BlobRow.sha256, func.min(BlobRow.id)).where(owned(BlobRow, tenant_id), BlobRow.sha256.in_(some), _IS_NEEDED)
        first |= {row[0]: row[1] for row in session.execute(query.group_by(BlobRow.sha256))}
    locked = lock_needed_by_ids(session, tenant_id, first.values())
    return {sha256: locked[blob_id] for sha256, blob_id in first.items() if blob_id in locked}


def lock_needed_by_ids(session: Session, tenant_id: str, blob_ids: Collection[str]) -> dict[str, BlobRow]:
    """Those of these blobs that somebody needs, by their ids, kept from being deleted until the transaction ends.

    Locked in the order of their ids, so that two requests over the same blobs never wait for each other.
    """
    found: dict[str, BlobRow] = {}
    for ids in chunked(sorted(set(blob_ids))):
        locking = select(BlobRow).where(owned(BlobRow, tenant_id), BlobRow.id.in_(ids)).order_by(BlobRow.id).with_for_update()
        locked = session.scalars(locking).all()
        # Asked under the lock: the last reference may have gone while we waited for it.
        needed = set(session.scalars(select(BlobReferenceRow.blob_id).where(BlobReferenceRow.blob_id.in_(ids)).distinct()))
        found |= {blob.id: blob for blob in locked if blob.id in needed}
    return found


def find_by_key(session: Session, tenant_id: str, key: str) -> BlobRow | None:
    return session.scalars(select(BlobRow).where(owned(BlobRow, tenant_id), BlobRow.key == key)).one_or_none()


def get_by_key(session: Session, tenant_id: str, key: str) -> BlobRow:
    return session.scalars(select(BlobRow).where(owned(BlobRow, tenant_id), BlobRow.key == key)).one()


def lock_unneeded(session: Session, blob_id: str) -> BlobRow | None:
    """The blob, locked, if nobody needs it and no other process is deleting it."""
    locked = session.scalars(select(BlobRow).where(BlobRow.id == blob_id).with_for_update(skip_locked=True)).one_or_none()
    return None if locked is None or is_needed(session, blob_id) else locked


def unneeded_ids(session: Session, *, limit: int) -> Sequence[str]:
    return session.scalars(select(BlobRow.id).where(~_IS_NEEDED).limit(limit)).all()


def is_needed(session: Session, blob_id: str) -> bool:
    return session.execute(select(BlobReferenceRow.blob_id).where(BlobReferenceRow.blob_id == blob_id).limit(1)).first() is not None


def keys_held(session: Session, owner_id: str) -> set[str]:
    """Keys of the blobs that the owner needs."""
    references = select(BlobRow.key).join(BlobReferenceRow, BlobReferenceRow.blob_id == BlobRow.id)
    return set(session.scalars(references.where(BlobReferenceRow.owner_id == owner_id)))


def add_references(session: Session, owner_id: str, blob_ids: Collection[str]) -> None:
    """Those that are there already stay."""
    known = set(session.scalars(select(BlobReferenceRow.blob_id).where(BlobReferenceRow.owner_id == owner_id)))
    session.add_all(BlobReferenceRow(blob_id=blob_id, owner_id=owner_id) for blob_id in sorted(set(blob_ids) - known))
    session.flush()


def remove_references(session: Session, owner_ids: Collection[str]) -> None:
    for ids in chunked(sorted(set(owner_ids))):
        session.execute(delete(BlobReferenceRow).where(BlobReferenceRow.owner_id.in_(ids)))
