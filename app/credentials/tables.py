"""What tenants gave us to reach their own buckets and repositories with."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class CredentialRow(Base):
    """One tenant's way into an S3 or the Hugging Face hub. `scope` is the bucket or owner it is for; empty: every other one.

    `sealed` holds the secret parts, encrypted with the operator's key (`vault`); `hint` is how the access key id or token begins.
    """

    __tablename__ = "credentials"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    type: Mapped[str]
    scope: Mapped[str]
    endpoint_url: Mapped[str | None]
    region: Mapped[str | None]
    hint: Mapped[str]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("tenant_id", "type", "scope"),)
