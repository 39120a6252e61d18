"""Who did what."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Serial


class AuditRow(Base):
    """One change made by a caller, written in the transaction of the change itself. Never updated, never deleted."""

    __tablename__ = "audit_log"
    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    tenant_id: Mapped[str]
    key_id: Mapped[str | None]
    action: Mapped[str]
    subject_id: Mapped[str]
    request_id: Mapped[str | None]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "id"),)
