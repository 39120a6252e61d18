"""`/v1/jobs`"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.artifacts.digests import repr_digest
from app.auth.dependencies import Reader, Writer
from app.errors import Conflict, InvalidInput, NotAcceptable, NotFound, TooManyRequests, problem_responses
from app.idempotency.dependencies import Once
from app.jobs import repository, service
from app.jobs.negotiation import choose_media_type
from app.jobs.schemas import CreatedJob, JobCreate, JobEvent, JobResource, JobStatus, StepResource, job_event, step_resource
from app.jobs.states import FINAL
from app.jobs.stream import EVENT_STREAM, EventStreams
from app.jobs.tables import JobRow
from app.pagination import PageQuery, as_page, parse_number
from app.repository import get_owned, list_owned
from app.runtime import ReadSession, RuntimeDep, WriteSession
from app.schemas import Page
from gpu_jobs.config import JobKind

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

REPORTS = {"application/json": "report.json", "text/html": "report.html", "application/sarif+json": "report.sarif"}
PAGE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


@router.post("", status_code=201, response_model=CreatedJob, responses=problem_responses(NotFound, Conflict, InvalidInput, TooManyRequests))
def create_job(body: JobCreate, caller: Writer, session: WriteSession, runtime: RuntimeDep, once: Once) -> Response:
    """Start a job. Inputs that are still being inspected are waited for. An input that is not there is 404, one that cannot be used 422."""
    return once.created(lambda: service.create_job(session, runtime, caller, body))


@router.get("")
def list_jobs(
    caller: Reader,
    session: ReadSession,
    page: PageQuery,
    status: Annotated[JobStatus | None, Query(description="Only jobs of this status.")] = None,
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None,
    model_id: Annotated[str | None, Query(alias="model", max_length=100, description="Only jobs on this model.")] = None,
) -> Page[JobResource]:
    """Jobs, newest first."""
    wanted = {JobRow.status: status, JobRow.kind: kind, JobRow.model_id: model_id}
    rows = list_owned(session, JobRow, caller.tenant_id, page, *(column == value for column, value in wanted.items() if value is not None))
    shown = service.show_jobs(session, rows)
    return as_page(rows, page, lambda row: shown[row.id], lambda row: row.id)


@router.get("/{job_id}", responses=problem_responses(NotFound))
def get_job(job_id: str, caller: Reader, session: ReadSession) -> JobResource:
    """One job: how far it is, and what came of it."""
    return service.show_job(session, get_owned(session, JobRow, caller.tenant_id, job_id))


@router.post("/{job_id}/cancel", responses=problem_responses(NotFound))
def cancel_job(job_id: str, caller: Writer, session: WriteSession) -> JobResource:
    """Stop a job. It is `cancelling` until its workers have let go, for five seconds at most.

    Cancelling twice, or a job that is over, changes nothing.
    """
    return service.cancel_job(session, caller, job_id)


@router.delete("/{job_id}", status_code=204, responses=problem_responses(NotFound, Conflict))
def delete_job(job_id: str, caller: Writer, session: WriteSession) -> None:
    """Delete a job that is over, with its events, its artifacts and the stored bytes that nothing else needs."""
    service.delete_job(session, caller, job_id)


@router.get("/{job_id}/steps", responses=problem_responses(NotFound))
def list_job_steps(job_id: str, caller: Reader, session: ReadSession, page: PageQuery) -> Page[StepResource]:
    """The job's steps in the order in which they run, each with every attempt: which worker took it, when, and what came of it."""
    job = get_owned(session, JobRow, caller.tenant_id, job_id)
    steps = repository.list_steps(session, job.id, after=page.after, limit=page.limit + 1)
    attempts = repository.attempts_by_step(session, [step.id for step in steps])
    return as_page(steps, page, lambda step: step_resource(step, attempts[step.id]), lambda step: step.id)


@router.get(
    "/{job_id}/events",
    response_model=Page[JobEvent],
    responses={
        200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}},
        204: {"description": "As a stream, of a job that is over: nothing happened past `Last-Event-ID`, and nothing will."},
        **problem_responses(NotFound),
    },
)
def list_job_events(
    job_id: str,
    request: Request,
    caller: Reader,
    session: ReadSession,
    page: PageQuery,
    order: Annotated[Literal["asc", "desc"], Query(description="`desc` is newest first.")] = "desc",
    last_event_id: Annotated[str | None, Header(description="With `Accept: text/event-stream`: the last event you have seen.")] = None,
) -> Page[JobEvent] | Response:
    """What has happened, newest first; or, with `Accept: text/event-stream`, all of it in order and then what happens next, to the end."""
    job = get_owned(session, JobRow, caller.tenant_id, job_id)
    after = parse_number("evt_", "query/after", page.after)
    if choose_media_type(request.headers.get("accept"), ("application/json", EVENT_STREAM)) == EVENT_STREAM:
        seen = parse_number("evt_", "header/Last-Event-ID", last_event_id) or after or 0
        if job.status in FINAL and not repository.list_events(session, job.id, after=seen, oldest_first=True, limit=1):
            return Response(status_code=204)  # tells an EventSource not to come back
        streams: EventStreams = request.app.state.event_streams
        return streams.open(caller.tenant_id, job.id, seen)
    rows = repository.list_events(session, job.id, after=after, oldest_first=order == "asc", limit=page.limit + 1)
    return as_page(rows, page, job_event, lambda row: f"evt_{row.id}")


@router.get(
    "/{job_id}/report",
    response_class=Response,
    responses={200: {"content": {media_type: {} for media_type in REPORTS}}, **problem_responses(NotFound, NotAcceptable, Conflict)},
)
def get_job_report(job_id: str, request: Request, caller: Reader, session: ReadSession, runtime: RuntimeDep) -> Response:
    """The report of a finished job, by `Accept`: as JSON, as one self-contained page or, where the job reached a verdict, as SARIF
    for code scanning."""
    media_type = choose_media_type(request.headers.get("accept"), tuple(REPORTS))
    if media_type is None:
        raise NotAcceptable(f"A report is offered as {', '.join(REPORTS)}.")
    report = service.find_report(session, caller, job_id, REPORTS[media_type])
    headers = {
        "Content-Length": str(report.bytes),
        "ETag": f'"{report.sha256}"',
        "Repr-Digest": repr_digest(report.sha256),
        "Vary": "Accept",
    }
    if media_type == "text/html":
        headers["Content-Security-Policy"] = PAGE_POLICY
    return StreamingResponse(runtime.store.open_range(report.key), media_type=media_type, headers=headers)
