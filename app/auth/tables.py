"""Tenants and the keys they call with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class TenantRow(Base):
    """A customer. Every other row belongs to exactly one, and no query crosses from one to another.

    `limits` are those that its operator set for it alone, by the names of `app.quotas.limits.Limits`; null: none.
    """

    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    limits: Mapped[dict[str, Any] | None]


class ApiKeyRow(Base):
    """`digest` is the HMAC of the key: the key itself is shown once and stored nowhere. `hint` is its recognisable start."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    hint: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "tenant_id", "id"),)
