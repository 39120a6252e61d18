"""Models that a tenant registered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class ModelRow(Base):
    """A suspect or purified model. `status`: inspecting, ready, rejected (then `findings` says why).

    `files` is the manifest: `{path, key, sha256, bytes, archive}` each, `archive` meaning a zip that is unpacked into the folder;
    fetched ones also have `etag` and `version_id`. Empty until an S3's or a hub's files are here.
    `inspection` holds `progress` while files are fetched, then what was found: family, parameters, tensors, dtype.
    """

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    status: Mapped[str]
    source: Mapped[dict[str, Any]]
    files: Mapped[list[Any]]
    inspection: Mapped[dict[str, Any]]
    findings: Mapped[list[Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "id"),)
