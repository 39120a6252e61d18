"""SQL about credentials."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.credentials.tables import CredentialRow
from app.repository import count_owned, find_owned


def find(session: Session, tenant_id: str, type: str, scope: str, *, lock: bool = False) -> CredentialRow | None:
    return find_owned(session, CredentialRow, tenant_id, CredentialRow.type == type, CredentialRow.scope == scope, lock=lock)


def count(session: Session, tenant_id: str) -> int:
    return count_owned(session, CredentialRow, tenant_id)


def lock_all(session: Session) -> Sequence[CredentialRow]:
    """Those of every tenant: for the operator, who changes the key that closes them."""
    return session.scalars(select(CredentialRow).order_by(CredentialRow.id).with_for_update()).all()
