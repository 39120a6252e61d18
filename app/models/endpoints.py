"""`/v1/models`"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.auth.dependencies import Reader, Writer
from app.errors import Conflict, NotFound, problem_responses
from app.idempotency.dependencies import Once
from app.models.schemas import ModelCreate, ModelResource
from app.models.tables import ModelRow
from app.pagination import PageQuery, as_page
from app.repository import get_owned, list_owned
from app.runtime import ReadSession, RuntimeDep, WriteSession
from app.schemas import Page
from app.sources.repository import last_failures
from app.sources.service import register, remove

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.post("", status_code=201, response_model=ModelResource, responses=problem_responses(NotFound, Conflict))
def create_model(body: ModelCreate, caller: Writer, session: WriteSession, once: Once) -> Response:
    """Register a model. It is `inspecting` until a worker has looked at it, then `ready`, or `rejected` with findings that say why."""
    return once.created(lambda: ModelResource.of(register(session, caller, ModelRow, body.name, body.source)))


@router.get("")
def list_models(
    caller: Reader,
    session: ReadSession,
    page: PageQuery,
    status: Annotated[Literal["inspecting", "ready", "rejected"] | None, Query()] = None,
) -> Page[ModelResource]:
    """The tenant's models, newest first."""
    where = [ModelRow.status == status] if status else []
    rows = list_owned(session, ModelRow, caller.tenant_id, page, *where)
    failures = last_failures(session, rows)
    return as_page(rows, page, lambda row: ModelResource.of(row, failures.get(row.id)), lambda row: row.id)


@router.get("/{model_id}", responses=problem_responses(NotFound))
def get_model(model_id: str, caller: Reader, session: ReadSession) -> ModelResource:
    """One model: its status, what the inspection found, its files and their digests."""
    row = get_owned(session, ModelRow, caller.tenant_id, model_id)
    return ModelResource.of(row, last_failures(session, [row]).get(row.id))


@router.delete("/{model_id}", status_code=204, responses=problem_responses(NotFound, Conflict))
def delete_model(model_id: str, caller: Writer, runtime: RuntimeDep) -> None:
    """Delete a model and the stored bytes that nothing else refers to. Refused while an unfinished job uses it."""
    remove(runtime, caller, ModelRow, model_id)
