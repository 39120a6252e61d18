"""`/v1/uploads`"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path as FilePath
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.auth.dependencies import Reader, Writer
from app.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    MalformedRequest,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
    problem_responses,
)
from app.idempotency.dependencies import Once
from app.pagination import PageQuery, as_page
from app.repository import list_owned
from app.runtime import ReadSession, Runtime, RuntimeDep, WriteSession
from app.schemas import Page
from app.uploads import repository, service
from app.uploads.completion import complete_upload as complete
from app.uploads.parts import check_part_link
from app.uploads.schemas import UploadCreate, UploadResource, UploadSummary
from app.uploads.showing import show_summary
from app.uploads.sizes import part_sizes
from app.uploads.tables import UploadRow

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

WRITE_AT_ONCE = 1024 * 1024


@router.post("", status_code=201, response_model=UploadResource, responses=problem_responses(Conflict, PayloadTooLarge, TooManyRequests))
def create_upload(body: UploadCreate, caller: Writer, session: WriteSession, runtime: RuntimeDep, once: Once) -> Response:
    """Announce a file. PUT each part to its `url`, in any order and in parallel, then complete the upload.

    Where you keep these very bytes already, by `sha256`, the upload is `completed` at once and there is nothing to send.
    """
    return once.created(lambda: service.create_upload(session, runtime, caller, body))


@router.get("")
def list_uploads(
    caller: Reader,
    session: ReadSession,
    page: PageQuery,
    status: Annotated[Literal["open", "completed"] | None, Query(description="Only these; `open` are also those being completed.")] = None,
    sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$", description="Only uploads of a file with this digest.")] = None,
) -> Page[UploadSummary]:
    """Uploads, newest first: to go on with one that broke off, find it here and `GET` it for the parts that are missing."""
    wanted = {UploadRow.status: status, UploadRow.sha256: sha256}
    rows = list_owned(
        session, UploadRow, caller.tenant_id, page, *(column == value for column, value in wanted.items() if value is not None)
    )
    return as_page(rows, page, show_summary, lambda row: row.id)


@router.get("/{upload_id}", responses=problem_responses(NotFound))
def get_upload(upload_id: str, caller: Writer, session: ReadSession, runtime: RuntimeDep) -> UploadResource:
    """Which parts arrived, and where to PUT those that did not: whoever has the links may write."""
    return service.get_upload(session, runtime, caller, upload_id)


@router.post(
    "/{upload_id}/complete",
    responses={
        **problem_responses(NotFound, Conflict, Unavailable),
        202: {"model": UploadResource, "description": "It goes on; ask again."},
    },
)
def complete_upload(upload_id: str, caller: Writer, runtime: RuntimeDep, response: Response) -> UploadResource:
    """Put the parts together and verify size and digest. A wrong digest opens the upload again, with all parts missing.

    A large file may take longer than a request should. Then the answer is 202 with the status `completing`, and the same
    request, sent again, waits for what is under way.
    """
    upload = complete(runtime, caller, upload_id)
    response.status_code = 200 if upload.status == "completed" else 202
    return upload


@router.delete("/{upload_id}", status_code=204, responses=problem_responses(NotFound))
def delete_upload(upload_id: str, caller: Writer, runtime: RuntimeDep) -> None:
    """Abort the upload, or forget it when it is complete. Models and data sets made of it keep their bytes."""
    service.delete_upload(runtime, caller, upload_id)


@router.put("/{upload_id}/parts/{number}", responses=problem_responses(Forbidden, NotFound, Conflict, PayloadTooLarge))
async def put_part(
    request: Request,
    runtime: RuntimeDep,
    upload_id: str,
    number: Annotated[int, Path(ge=1, le=10_000)],
    expires: Annotated[int, Query(ge=0, lt=2**40)],
    signature: Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")],
) -> Response:
    """Take the bytes of one part. The address comes from the upload and is its own permission; send no API key."""
    check_part_link(runtime, upload_id, number, expires, signature)
    upload = await run_in_threadpool(_find_open, runtime, upload_id)
    sizes = part_sizes(upload.bytes, upload.part_size)
    if number > len(sizes):
        raise NotFound(f"This upload has {len(sizes)} parts, so there is no part {number}.")
    path = runtime.store.scratch() / f"part-{secrets.token_hex(8)}"
    try:
        sha256 = await _receive(request, path, sizes[number - 1])
        part = await run_in_threadpool(service.take_part, runtime, upload, number, path, sha256)
    finally:
        path.unlink(missing_ok=True)
    return Response(headers={"ETag": f'"{part.etag}"'})


def _find_open(runtime: Runtime, upload_id: str) -> UploadRow:
    with runtime.read() as session:
        upload = repository.find_upload(session, upload_id)
    if upload is None:
        raise NotFound("This upload was deleted or has expired.")
    if upload.status != "open":
        raise Conflict("This upload is completed and takes no more parts.")
    return upload


async def _receive(request: Request, path: FilePath, expected: int) -> str:
    """Write the request's body to `path`, a mebibyte at a time, and return its SHA-256.

    Raises:
        PayloadTooLarge: there is more than `expected`; noticed at the first byte too many.
        InvalidInput: there is less.
    """
    announced = request.headers.get("content-length")
    if announced is not None and announced.isdigit() and int(announced) > expected:
        raise PayloadTooLarge(f"This part has {expected} bytes, not {announced}.")
    received = 0
    waiting = bytearray()
    digest = hashlib.sha256()
    with path.open("wb") as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        try:
            async for chunk in request.stream():
                received += len(chunk)
                if received > expected:
                    raise PayloadTooLarge(f"This part has {expected} bytes, not more.")
                waiting += chunk
                if len(waiting) >= WRITE_AT_ONCE:
                    await run_in_threadpool(write, bytes(waiting))
                    waiting.clear()
        except ClientDisconnect as error:
            raise MalformedRequest("The connection broke in the middle of the part. Send it again.") from error
        await run_in_threadpool(write, bytes(waiting))
    if received != expected:
        raise InvalidInput(f"This part has {expected} bytes, but only {received} came. Send it again.")
    return digest.hexdigest()
