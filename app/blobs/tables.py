"""Stored bytes and who still needs them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class BlobRow(Base):
    """One stored object, found by its digest, so that a tenant's equal files are kept once.

    `key` is its place in the object store and is never used again: deleting old bytes cannot hit new ones.
    """

    __tablename__ = "blobs"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]

    __table_args__ = (
        Index(None, "tenant_id", "sha256"),
        # Found by the beginning of their keys too, for which PostgreSQL uses a plain index only where the database sorts by bytes.
        Index("ix_blobs_key_pattern", "key", postgresql_ops={"key": "text_pattern_ops"}),
    )


class BlobReferenceRow(Base):
    """`owner_id` (an upload, model, data set or artifact) needs the blob. Without a reference the bytes are deleted."""

    __tablename__ = "blob_references"
    blob_id: Mapped[str] = mapped_column(ForeignKey("blobs.id"), primary_key=True)
    owner_id: Mapped[str] = mapped_column(primary_key=True)

    __table_args__ = (Index(None, "owner_id"),)
