"""SQL about uploads that is not the same for every noun."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from app.repository import count_owned
from app.uploads.tables import UploadRow


def find_upload(session: Session, upload_id: str) -> UploadRow | None:
    """Not scoped by tenant: for requests whose signed link names the upload, and for housekeeping."""
    return session.get(UploadRow, upload_id)


def count_open(session: Session, tenant_id: str) -> int:
    return count_owned(session, UploadRow, tenant_id, UploadRow.status == "open")


def expired(session: Session, *, now: datetime, limit: int) -> Sequence[UploadRow]:
    """Those past their time that nobody is completing at this moment."""
    return session.scalars(select(UploadRow).where(_is_expired(now)).limit(limit)).all()


def lock_expired(session: Session, upload_id: str, *, now: datetime) -> UploadRow | None:
    """The upload, if it is still one of them."""
    query = select(UploadRow).where(UploadRow.id == upload_id, _is_expired(now)).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def lock_upload(session: Session, upload_id: str) -> UploadRow | None:
    return session.get(UploadRow, upload_id, with_for_update=True, populate_existing=True)


def lease_completion(session: Session, upload_id: str, until: datetime | None) -> None:
    """Say until when the upload is being completed; None: no more."""
    session.execute(update(UploadRow).where(UploadRow.id == upload_id, UploadRow.status == "open").values(completing_until=until))


def _is_expired(now: datetime) -> ColumnElement[bool]:
    return and_(UploadRow.expires_at <= now, or_(UploadRow.completing_until.is_(None), UploadRow.completing_until <= now))
