"""Who did what, when and from where."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Serial


class AuditRow(Base):
    """One change, written in the transaction of the change itself. Never updated, never deleted.

    `action` is `noun.verb`. `key_id` is null where the server or its operator did it; `address` is then null too.
    """

    __tablename__ = "audit_log"
    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    tenant_id: Mapped[str]
    key_id: Mapped[str | None]
    action: Mapped[str]
    subject_id: Mapped[str]
    request_id: Mapped[str | None]
    address: Mapped[str | None]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "id"),)
