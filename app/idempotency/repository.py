"""SQL about idempotency keys."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.idempotency.tables import IdempotencyKeyRow


def lock_key(session: Session, tenant_id: str, key: str) -> bool:
    """Keep others from running a request with this key until the transaction ends; False: somebody is.

    On SQLite the transaction itself is that lock, and whoever comes second waits for the first one's answer.
    """
    if session.get_bind().dialect.name == "sqlite":
        return True
    number = int.from_bytes(hashlib.sha256(f"{tenant_id} {key}".encode()).digest()[:8], signed=True)
    locked: bool = session.execute(select(func.pg_try_advisory_xact_lock(number))).scalar_one()
    return locked


def find(session: Session, tenant_id: str, key: str, *, now: datetime) -> IdempotencyKeyRow | None:
    """What was answered to this key, unless that was too long ago: then it is forgotten here and now."""
    row = session.get(IdempotencyKeyRow, (tenant_id, key))
    if row is not None and row.expires_at <= now:
        session.delete(row)
        session.flush()
        return None
    return row


def forget_expired(session: Session, *, now: datetime) -> None:
    session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.expires_at <= now))
