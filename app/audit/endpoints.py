"""`/v1/audit`"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.audit import repository
from app.audit.schemas import PREFIX, AuditEntry
from app.auth.dependencies import Admin
from app.pagination import PageQuery, as_page
from app.runtime import ReadSession
from app.schemas import Page

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("")
def list_audit(
    caller: Admin,
    session: ReadSession,
    page: PageQuery,
    action: Annotated[str | None, Query(max_length=100, description="Only such changes, as `job.cancelled`.")] = None,
    object_id: Annotated[str | None, Query(max_length=100, description="Only changes of this object.")] = None,
    key_id: Annotated[str | None, Query(alias="key", max_length=100, description="Only changes made with this key.")] = None,
) -> Page[AuditEntry]:
    """Every change of what the tenant owns, newest first: who made it, what it was, when, and from where."""
    rows = repository.list_entries(session, caller.tenant_id, page, action=action, object_id=object_id, key_id=key_id)
    return as_page(rows, page, AuditEntry.of, lambda row: f"{PREFIX}{row.id}")
