"""Uploads in progress and finished ones."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class UploadRow(Base):
    """`status`: open, completed. Which parts arrived is asked of the object store, the only one that knows.

    part_digests: the SHA-256 of every part, in order, one after the other, where the sender stated them.
    completing_until: until then somebody who is completing it may be relied on to finish, or to say that it takes longer.
    failure: why the last completion failed, for whoever asks after the one who was told has gone.
    """

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    filename: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    part_size: Mapped[int] = mapped_column(BigInteger)
    part_digests: Mapped[str | None]
    status: Mapped[str]
    completing_until: Mapped[datetime | None]
    failure: Mapped[str | None]
    key: Mapped[str]
    multipart_id: Mapped[str]
    blob_id: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "tenant_id", "id"), Index(None, "status", "expires_at"), Index(None, "expires_at"))
