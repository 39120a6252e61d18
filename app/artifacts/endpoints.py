"""`/v1/artifacts`, and the artifacts of a job."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.artifacts.content import artifact_content
from app.artifacts.schemas import ArtifactResource
from app.artifacts.tables import LOG, ArtifactRow
from app.auth.dependencies import Reader
from app.errors import NotFound, RangeNotSatisfiable, problem_responses
from app.jobs.tables import JobRow
from app.pagination import PageQuery, as_page
from app.repository import get_owned, list_owned
from app.runtime import ReadSession, RuntimeDep
from app.schemas import Page

router = APIRouter(tags=["artifacts"])


@router.get("/v1/jobs/{job_id}/artifacts", responses=problem_responses(NotFound))
def list_artifacts(
    job_id: str,
    caller: Reader,
    session: ReadSession,
    page: PageQuery,
    kind: Annotated[str | None, Query(description="Only those of this kind: `report`, `weights`, `log`, …")] = None,
) -> Page[ArtifactResource]:
    """What the job hands out, signed by its manifest: empty until it has succeeded. The logs of its steps are there from the end of each
    attempt on, and are listed when asked for by `kind=log`."""
    job = get_owned(session, JobRow, caller.tenant_id, job_id)
    wanted = ArtifactRow.kind != LOG if kind is None else ArtifactRow.kind == kind
    rows = list_owned(session, ArtifactRow, caller.tenant_id, page, ArtifactRow.job_id == job.id, wanted)
    return as_page(rows, page, ArtifactResource.of, lambda row: row.id)


@router.get("/v1/artifacts/{artifact_id}", responses=problem_responses(NotFound))
def get_artifact(artifact_id: str, caller: Reader, session: ReadSession) -> ArtifactResource:
    """One artifact: name, size, digest and media type."""
    return ArtifactResource.of(get_owned(session, ArtifactRow, caller.tenant_id, artifact_id))


@router.get(
    "/v1/artifacts/{artifact_id}/content",
    response_class=Response,
    responses={
        200: {"description": "The bytes.", "content": {"application/octet-stream": {}}},
        206: {"description": "The bytes asked for by `Range`."},
        302: {"description": "Where to get the bytes, for a short while."},
        304: {"description": "Unchanged since `If-None-Match`."},
        **problem_responses(NotFound, RangeNotSatisfiable),
    },
)
def get_artifact_content(request: Request, artifact_id: str, caller: Reader, session: ReadSession, runtime: RuntimeDep) -> Response:
    """The bytes: a redirect to a short-lived signed link or, in the embedded profile, a stream that honours `Range` and tells
    the file's digest in `Repr-Digest`."""
    return artifact_content(request, runtime, get_owned(session, ArtifactRow, caller.tenant_id, artifact_id))
