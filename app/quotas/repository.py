"""SQL that counts what a tenant has."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.auth.tables import TenantRow
from app.blobs.tables import BlobRow
from app.errors import NotFound
from app.jobs.tables import StepRow
from app.repository import owned
from app.uploads.tables import UploadRow


def get_tenant(session: Session, tenant_id: str, *, lock: bool = False) -> TenantRow:
    """The tenant. With `lock`, whoever else counts what it has waits until this transaction ends; rows that merely refer to it do not.

    Raises:
        NotFound: there is none.
    """
    query = select(TenantRow).where(TenantRow.id == tenant_id).execution_options(populate_existing=lock)
    found = session.scalars(query.with_for_update(key_share=True) if lock else query).one_or_none()
    if found is None:
        raise NotFound(f"There is no tenant {tenant_id!r}.")
    return found


def used_bytes(session: Session, tenant_id: str) -> int:
    """What is stored, what open uploads will bring, and what inspections may still fetch.

    One statement: bytes that go from one of the three to another meanwhile are counted once.
    """
    session.flush()
    blobs = select(func.coalesce(func.sum(BlobRow.bytes), 0)).where(owned(BlobRow, tenant_id))
    uploads = select(func.coalesce(func.sum(UploadRow.bytes), 0)).where(owned(UploadRow, tenant_id), UploadRow.status == "open")
    fetches = select(func.coalesce(func.sum(StepRow.reserved_bytes), 0)).where(
        owned(StepRow, tenant_id), StepRow.reserved_bytes.is_not(None), StepRow.status.in_(("ready", "running"))
    )
    return int(session.scalars(select(blobs.scalar_subquery() + uploads.scalar_subquery() + fetches.scalar_subquery())).one())
