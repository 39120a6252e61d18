"""Where the document promises several answers that are no errors, each of them comes, by a real request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest
from sqlalchemy import select

from app.db import database_now
from app.jobs import events
from app.jobs.tables import EventRow, JobRow
from app.main import create_routes
from app.uploads import completion
from tests.worlds.api import Server, Tenant
from tests.worlds.artifacts import finished_job, leave

Answer = tuple[str, str, int]
Request = Callable[[Tenant], httpx.Response]


def while_other_uploads_are_read(tenant: Tenant) -> httpx.Response:
    upload = tenant.announce(b"large")
    tenant.send_parts(upload, b"large")
    with ExitStack() as busy:
        busy.enter_context(pytest.MonkeyPatch.context()).setattr(completion, "ANSWER_AFTER", 0.0)
        for _ in range(4):
            busy.enter_context(completion._AT_ONCE)
        return tenant.post(f"/v1/uploads/{upload['id']}/complete")


def of_a_complete_upload(tenant: Tenant) -> httpx.Response:
    return tenant.post(f"/v1/uploads/{tenant.upload(b'data')}/complete")


def stream_past(behind: int) -> Request:
    """The stream of a job that is over, to a client that has seen all events but so many."""

    def ask(tenant: Tenant) -> httpx.Response:
        job_id = finished_job(tenant)
        with tenant.server.runtime.write.begin() as session:
            job = session.get_one(JobRow, job_id)
            events.record(session, job, "job.succeeded", {}, now=database_now(session))
            session.flush()
            last = session.scalars(select(EventRow.id).where(EventRow.job_id == job_id)).one()
        headers = {"Accept": "text/event-stream", "Last-Event-ID": f"evt_{last - behind}"}
        return tenant.get(f"/v1/jobs/{job_id}/events", headers=headers)

    return ask


def content(**headers: str) -> Request:
    def ask(tenant: Tenant) -> httpx.Response:
        artifact_id = leave(tenant, finished_job(tenant), "report.json", b"{}")
        etag = f'"{tenant.get(f"/v1/artifacts/{artifact_id}").json()["sha256"]}"'
        return tenant.get(
            f"/v1/artifacts/{artifact_id}/content", headers={name: value.format(etag=etag) for name, value in headers.items()}
        )

    return ask


COMPLETE, EVENTS, CONTENT = "/v1/uploads/{upload_id}/complete", "/v1/jobs/{job_id}/events", "/v1/artifacts/{artifact_id}/content"
# In production artifacts go straight from the storage.
ONLY_IN_PRODUCTION: dict[Answer, Request] = {("get", CONTENT, 302): content()}
ONLY_EMBEDDED: dict[Answer, Request] = {
    ("get", CONTENT, 200): content(),
    ("get", CONTENT, 206): content(Range="bytes=0-0"),
    ("get", CONTENT, 304): content(**{"If-None-Match": "{etag}"}),
}
ANYWHERE: dict[Answer, Request] = {
    ("post", COMPLETE, 200): of_a_complete_upload,
    ("post", COMPLETE, 202): while_other_uploads_are_read,
    ("get", EVENTS, 200): stream_past(1),
    ("get", EVENTS, 204): stream_past(0),
}


def test_each_that_is_documented_has_a_request_that_reaches_it() -> None:
    documented = {
        (method, path): [int(status) for status in operation["responses"] if status < "400"]
        for path, item in create_routes().openapi()["paths"].items()
        for method, operation in item.items()
    }
    several = {(*operation, status) for operation, statuses in documented.items() if len(statuses) > 1 for status in statuses}
    assert several == ANYWHERE.keys() | ONLY_EMBEDDED.keys() | ONLY_IN_PRODUCTION.keys()


def test_each_comes(server: Server, tenant: Tenant) -> None:
    embedded = server.runtime.settings.storage_url.startswith("file:")
    for answer, request in {**ANYWHERE, **(ONLY_EMBEDDED if embedded else ONLY_IN_PRODUCTION)}.items():
        assert request(tenant).status_code == answer[2], answer
