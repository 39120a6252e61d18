"""`/v1/credentials`"""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.auth.dependencies import Admin, Reader
from app.credentials import service
from app.credentials.schemas import CredentialResource, CredentialSet
from app.credentials.tables import CredentialRow
from app.errors import Conflict, NotFound, problem_responses
from app.idempotency.dependencies import Once
from app.pagination import PageQuery, as_page
from app.repository import get_owned, list_owned
from app.runtime import ReadSession, RuntimeDep, WriteSession
from app.schemas import Page

router = APIRouter(prefix="/v1/credentials", tags=["credentials"])


@router.post("", status_code=201, response_model=CredentialResource, responses=problem_responses(Conflict))
def set_credential(body: CredentialSet, caller: Admin, session: WriteSession, runtime: RuntimeDep, once: Once) -> Response:
    """Keep credentials for sources of one type, encrypted, in place of those of the same scope. No answer ever shows them."""
    return once.created(lambda: service.set_credential(session, runtime, caller, body))


@router.get("")
def list_credentials(caller: Reader, session: ReadSession, page: PageQuery) -> Page[CredentialResource]:
    """The tenant's credentials, newest first, without their secrets."""
    return as_page(list_owned(session, CredentialRow, caller.tenant_id, page), page, CredentialResource.of, lambda row: row.id)


@router.get("/{credential_id}", responses=problem_responses(NotFound))
def get_credential(credential_id: str, caller: Reader, session: ReadSession) -> CredentialResource:
    """One of them, without its secrets."""
    return CredentialResource.of(get_owned(session, CredentialRow, caller.tenant_id, credential_id))


@router.delete("/{credential_id}", status_code=204, responses=problem_responses(NotFound))
def delete_credential(credential_id: str, caller: Admin, session: WriteSession) -> None:
    """Forget credentials. Models and data sets that were fetched with them stay."""
    service.delete_credential(session, caller, credential_id)
