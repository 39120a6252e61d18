"""Note who did what."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from sqlalchemy.orm import Session

from app.audit.tables import AuditRow


def record_audit(session: Session, tenant_id: str, key_id: str | None, action: str, subject_id: str) -> None:
    """One line in the audit log, kept if and only if the change itself is. The request's id and address come from the log context.

    key_id: None where the server or its operator did it.
    action: `noun.verb`, such as `job.cancelled`.
    """
    request = structlog.contextvars.get_contextvars()
    session.add(
        AuditRow(
            tenant_id=tenant_id,
            key_id=key_id,
            action=action,
            subject_id=subject_id,
            request_id=request.get("request_id"),
            address=request.get("client_address"),
            created_at=datetime.now(UTC),
        )
    )
