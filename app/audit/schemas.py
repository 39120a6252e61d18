"""The audit log as clients see it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.audit.tables import AuditRow
from app.schemas import Resource

PREFIX = "aud_"


class AuditEntry(Resource):
    """One change: who made it, what it was, when, and from where."""

    id: str = Field(examples=["aud_42"])
    object: Literal["audit_entry"] = "audit_entry"
    action: str = Field(examples=["job.cancelled"])
    object_type: str = Field(description="What was changed.", examples=["job"])
    object_id: str = Field(examples=["job_019ab3…"])
    tenant_id: str
    key_id: str | None = Field(description="The key that the change was made with. Null: the server or its operator made it.")
    address: str | None = Field(description="Where the request came from.")
    request_id: str | None = Field(description="The `X-Request-Id` of the answer.")
    created_at: datetime

    @classmethod
    def of(cls, row: AuditRow) -> AuditEntry:
        return cls(
            id=f"{PREFIX}{row.id}",
            action=row.action,
            object_type=row.action.partition(".")[0],
            object_id=row.subject_id,
            tenant_id=row.tenant_id,
            key_id=row.key_id,
            address=row.address,
            request_id=row.request_id,
            created_at=row.created_at,
        )
