"""`/v1/datasets`"""

from __future__ import annotations

import mimetypes
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from app.auth.dependencies import Reader, Writer
from app.datasets.schemas import DatasetCreate, DatasetResource
from app.datasets.tables import DatasetRow
from app.errors import Conflict, NotFound, problem_responses
from app.idempotency.dependencies import Once
from app.pagination import PageQuery, as_page
from app.repository import get_owned, list_owned
from app.runtime import ReadSession, RuntimeDep, StoreDep, WriteSession
from app.schemas import Page
from app.sources.repository import last_failures
from app.sources.service import register, remove

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post("", status_code=201, response_model=DatasetResource, responses=problem_responses(NotFound, Conflict))
def create_dataset(body: DatasetCreate, caller: Writer, session: WriteSession, once: Once) -> Response:
    """Register a data set. It is `inspecting` until every row and picture was looked at, then `ready`, or `rejected` with its faults."""
    return once.created(lambda: DatasetResource.of(register(session, caller, DatasetRow, body.name, body.source)))


@router.get("")
def list_datasets(
    caller: Reader,
    session: ReadSession,
    page: PageQuery,
    status: Annotated[Literal["inspecting", "ready", "rejected"] | None, Query()] = None,
) -> Page[DatasetResource]:
    """The tenant's data sets, newest first."""
    where = [DatasetRow.status == status] if status else []
    rows = list_owned(session, DatasetRow, caller.tenant_id, page, *where)
    failures = last_failures(session, rows)
    return as_page(rows, page, lambda row: DatasetResource.of(row, failures.get(row.id)), lambda row: row.id)


@router.get("/{dataset_id}", responses=problem_responses(NotFound))
def get_dataset(dataset_id: str, caller: Reader, session: ReadSession) -> DatasetResource:
    """One data set: its status, format, counts, and the rows that cannot be used."""
    row = get_owned(session, DatasetRow, caller.tenant_id, dataset_id)
    return DatasetResource.of(row, last_failures(session, [row]).get(row.id))


@router.get(
    "/{dataset_id}/thumbnails/{number}",
    response_class=Response,
    responses={200: {"description": "The picture.", "content": {"image/*": {}}}, **problem_responses(NotFound)},
)
def get_thumbnail(
    dataset_id: str, number: Annotated[int, Path(ge=0, lt=10_000)], caller: Reader, session: ReadSession, store: StoreDep
) -> Response:
    """A small picture out of the data set."""
    thumbnails = get_owned(session, DatasetRow, caller.tenant_id, dataset_id).inspection.get("thumbnails", [])
    if number >= len(thumbnails):
        raise NotFound(f"This data set has {len(thumbnails)} thumbnails, numbered from 0.")
    shown = thumbnails[number]
    media_type = mimetypes.guess_type(shown["path"])[0] or "application/octet-stream"
    headers = {"Content-Length": str(shown["bytes"]), "ETag": f'"{shown["sha256"]}"', "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(store.open_range(shown["key"]), media_type=media_type, headers=headers)


@router.delete("/{dataset_id}", status_code=204, responses=problem_responses(NotFound, Conflict))
def delete_dataset(dataset_id: str, caller: Writer, runtime: RuntimeDep) -> None:
    """Delete a data set and the stored bytes that nothing else refers to. Refused while an unfinished job uses it."""
    remove(runtime, caller, DatasetRow, dataset_id)
