"""SQL about keys and tenants."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.auth.tables import ApiKeyRow, TenantRow


def find_key_by_digest(session: Session, digest: str) -> ApiKeyRow | None:
    """Not scoped by tenant: the key is what tells the tenant."""
    return session.scalars(select(ApiKeyRow).where(ApiKeyRow.digest == digest)).one_or_none()


def find_tenant_by_name(session: Session, name: str) -> TenantRow | None:
    return session.scalars(select(TenantRow).where(TenantRow.name == name)).first()


def touch_key(session: Session, key_id: str, *, now: datetime, unless_since: datetime) -> None:
    """Note that the key was used, unless that is already known of a moment after `unless_since`."""
    stale = or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at < unless_since)
    session.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id, stale).values(last_used_at=now))
