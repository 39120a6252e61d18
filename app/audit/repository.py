"""SQL about the audit log."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.audit.schemas import PREFIX
from app.audit.tables import AuditRow
from app.pagination import PageRequest, parse_number
from app.repository import list_owned


def list_entries(
    session: Session, tenant_id: str, page: PageRequest, *, action: str | None, object_id: str | None, key_id: str | None
) -> Sequence[AuditRow]:
    """The tenant's entries that meet every filter, newest first: one more than the page holds where there are more.

    Raises:
        app.errors.InvalidInput: `after` is not the id of an entry.
    """
    wanted = {AuditRow.action: action, AuditRow.subject_id: object_id, AuditRow.key_id: key_id}
    where = [column == value for column, value in wanted.items() if value is not None]
    after = parse_number(PREFIX, "query/after", page.after)
    if after is not None:
        where.append(AuditRow.id < after)
    return list_owned(session, AuditRow, tenant_id, PageRequest(page.limit, None), *where)
