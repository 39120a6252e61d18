"""What jobs leave behind."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

# The kind of a step's log. Logs are not signed with what the job hands out: they are there before, and where it hands out nothing.
LOG = "log"


class ArtifactRow(Base):
    """One file of a job's outcome.

    `name` is its path (`report.json`, `model/model.safetensors`), `kind` what it is (report, weights, …).
    """

    __tablename__ = "artifacts"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str]
    kind: Mapped[str]
    key: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("job_id", "name"), Index(None, "tenant_id", "id"))
