"""`/v1/keys`"""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.auth import service
from app.auth.dependencies import Admin
from app.auth.schemas import CreatedKey, KeyCreate, KeyResource
from app.auth.tables import ApiKeyRow
from app.errors import Conflict, NotFound, problem_responses
from app.idempotency.dependencies import Once
from app.pagination import PageQuery, as_page
from app.repository import get_owned, list_owned
from app.runtime import ReadSession, RuntimeDep, WriteSession
from app.schemas import Page

router = APIRouter(prefix="/v1/keys", tags=["keys"])


@router.post("", status_code=201, response_model=CreatedKey, responses=problem_responses(Conflict))
def create_key(body: KeyCreate, caller: Admin, session: WriteSession, runtime: RuntimeDep, once: Once) -> Response:
    """Create a key. The answer is the only one that shows it."""
    return once.created(lambda: service.create_key(session, runtime.signer, caller, body))


@router.get("")
def list_keys(caller: Admin, session: ReadSession, page: PageQuery) -> Page[KeyResource]:
    """All keys of the tenant, revoked ones too."""
    return as_page(list_owned(session, ApiKeyRow, caller.tenant_id, page), page, KeyResource.of, lambda row: row.id)


@router.get("/{key_id}", responses=problem_responses(NotFound))
def get_key(key_id: str, caller: Admin, session: ReadSession) -> KeyResource:
    """One key, without its secret part."""
    return KeyResource.of(get_owned(session, ApiKeyRow, caller.tenant_id, key_id))


@router.delete("/{key_id}", responses=problem_responses(NotFound, Conflict))
def revoke_key(key_id: str, caller: Admin, session: WriteSession) -> KeyResource:
    """Revoke a key, at once and for good. It stays in the list."""
    return KeyResource.of(service.revoke_key(session, caller, key_id))
