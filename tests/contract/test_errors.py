"""Every error that the document promises comes, each by a real request; what no request can bring about is not promised.

What any operation may answer with is provoked everywhere alike (`ANYWHERE`); the rest has a request of its own (`OWN`).
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import httpx
import pytest

from app.db import make_engine, make_session_factory
from app.errors import problem_kinds
from app.idempotency.repository import lock_key
from app.main import create_routes
from app.ratelimit import RateLimiter
from tests.contract.test_tenancy import BODIES, one_of_everything
from tests.worlds.api import Server, Tenant, expect

Operation = tuple[str, str]
KINDS = {kind.__name__: kind for kind in problem_kinds()}
PATHS: dict[str, dict[str, Any]] = create_routes().openapi()["paths"]
OPERATIONS = {(method, path): operation for path, item in PATHS.items() for method, operation in item.items()}
PART = ("put", "/v1/uploads/{upload_id}/parts/{number}")


FORGED = ("signature=[0-9a-f]*", "signature=" + 64 * "0")
"""What to put in place of what in a signed link."""


class World:
    """A tenant with one of everything, made when it is first asked for."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.app = tenant.server.app

    @cached_property
    def ids(self) -> dict[str, str]:
        return one_of_everything(self.tenant)

    @cached_property
    def keys_without(self) -> dict[str, str]:
        """By scope, a key that lacks it."""
        instead = {"read": "write", "write": "read", "admin": "write"}
        bodies = {scope: {"name": f"no {scope}", "scopes": [other]} for scope, other in instead.items()}
        return {scope: expect(self.tenant.post("/v1/keys", json=body), 201)["key"] for scope, body in bodies.items()}

    def ask(self, operation: Operation, query: str = "", **options: Any) -> httpx.Response:
        """The operation, on things that do not exist."""
        return self.tenant.request(operation[0], _made_up(operation) + query, **options)

    def ask_own(self, operation: Operation, **options: Any) -> httpx.Response:
        """The operation, on the tenant's own things."""
        return self.tenant.request(operation[0], operation[1].format(**self.ids), **options)

    def put_part(self, upload: dict[str, Any], content: bytes = b"data", *, spoil: tuple[str, str] = ("", "")) -> httpx.Response:
        """PUT the only part of an upload. spoil: a pattern in its link and what takes its place."""
        [part] = upload["parts"]
        return httpx.put(re.sub(*spoil, part["url"]), content=content, headers=part["headers"])


def _made_up(operation: Operation) -> str:
    return re.sub(r"{\w+}", "unknown", operation[1].replace("{number}", "1"))


def without_key(world: World, operation: Operation) -> httpx.Response:
    return world.ask(operation, headers={"Authorization": ""})


def without_scope(world: World, operation: Operation) -> httpx.Response:
    [scope] = OPERATIONS[operation]["security"][0]["API key"]
    return world.ask(operation, headers={"Authorization": f"Bearer {world.keys_without[scope]}"})


def on_nothing(world: World, operation: Operation) -> httpx.Response:
    return world.ask(operation, json=BODIES.get(operation))


def with_a_huge_body(world: World, operation: Operation) -> httpx.Response:
    """Only announced: the answer does not wait for it."""
    url = httpx.URL(world.tenant.server.url)
    with closing(http.client.HTTPConnection(url.host, url.port or 80, timeout=30)) as connection:
        connection.putrequest(operation[0].upper(), _made_up(operation))
        connection.putheader("Content-Length", str(world.tenant.server.runtime.settings.max_request_bytes + 1))
        connection.endheaders()
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=dict(answer.getheaders()), content=answer.read())


def with_what_cannot_be_used(world: World, operation: Operation) -> httpx.Response:
    """A body of the wrong shape, or a character that no query may hold."""
    if "requestBody" in OPERATIONS[operation]:
        return world.ask(operation, json="not an object")
    return world.ask(operation, "?after=%00")


def too_often(world: World, operation: Operation) -> httpx.Response:
    patient, world.app.state.rate_limiter = world.app.state.rate_limiter, RateLimiter(per_second=1, burst=0)
    try:
        return world.ask(operation)
    finally:
        world.app.state.rate_limiter = patient


def without_a_database(world: World, request: Callable[[], httpx.Response]) -> httpx.Response:
    """Nothing listens where this one is looked for."""
    healthy = world.app.state.runtime
    engine = make_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    world.app.state.runtime = replace(healthy, read=make_session_factory(engine), write=make_session_factory(engine))
    try:
        return request()
    finally:
        world.app.state.runtime = healthy


def while_the_first_is_running(world: World, operation: Operation, body: dict[str, Any] | None = None) -> httpx.Response:
    """Sent again with the same Idempotency-Key while the first request holds it."""
    with world.tenant.server.runtime.write.begin() as first:
        lock_key(first, world.tenant.tenant_id, "the same")
        return world.ask_own(operation, json=body, headers={"Idempotency-Key": "the same"})


def on_a_webhook_that_is_off(world: World, operation: Operation) -> httpx.Response:
    expect(world.tenant.patch(f"/v1/webhooks/{world.ids['webhook_id']}", json={"enabled": False}), 200)
    return world.ask_own(operation)


def made_of_an_upload(world: World, operation: Operation, upload_id: str) -> httpx.Response:
    return world.ask(operation, json={"name": "one", "source": {"type": "upload", "files": [{"upload_id": upload_id}]}})


def by_the_key_itself(world: World, operation: Operation) -> httpx.Response:
    own = next(key["id"] for key in world.tenant.get("/v1/keys").json()["data"] if key["name"] == "first key")
    return world.tenant.request(operation[0], operation[1].format(key_id=own))


def part_of_a_complete_upload(world: World, _operation: Operation) -> httpx.Response:
    upload = world.tenant.announce(b"sent")
    world.put_part(upload, b"sent")
    expect(world.tenant.post(f"/v1/uploads/{upload['id']}/complete"), 200)
    return world.put_part(upload, b"sent")


def part_of_a_deleted_upload(world: World, _operation: Operation) -> httpx.Response:
    upload = world.tenant.announce(b"data")
    world.tenant.delete(f"/v1/uploads/{upload['id']}")
    return world.put_part(upload)


def part_without_a_database(world: World, _operation: Operation) -> httpx.Response:
    upload = world.tenant.announce(b"data")
    return without_a_database(world, lambda: world.put_part(upload))


Request = Callable[[World, Operation], httpx.Response]
ANYWHERE: dict[str, Request] = {
    "Unauthenticated": without_key,
    "Forbidden": without_scope,
    "NotFound": on_nothing,
    "PayloadTooLarge": with_a_huge_body,
    "InvalidInput": with_what_cannot_be_used,
    "TooManyRequests": too_often,
    "Unavailable": lambda world, operation: without_a_database(world, lambda: world.ask(operation)),
}
CREATIONS: dict[str, dict[str, Any] | None] = {
    "/v1/uploads": {"filename": "file.bin", "bytes": 4},
    "/v1/jobs": {"kind": "defend", "model_id": "model_1", "dataset_id": "dset_1"},
    "/v1/webhooks": {"url": "https://example.com/hook"},
    "/v1/webhooks/{webhook_id}/rotate-secret": None,
    "/v1/credentials": {"type": "huggingface", "token": "hf_token"},
    "/v1/keys": {"name": "CI"},
}
# On SQLite a second request waits for the first one's answer, and is not refused.
ONLY_IN_PRODUCTION: dict[tuple[Operation, str], Request] = {
    (("post", path), "Conflict"): partial(while_the_first_is_running, body=body) for path, body in CREATIONS.items()
}
# In production parts and artifacts go straight to and from the storage.
ONLY_EMBEDDED: dict[tuple[Operation, str], Request] = {
    (PART, "Forbidden"): lambda world, _: world.put_part(
        world.tenant.announce(b"data"), spoil=("signature=[0-9a-f]*", "signature=" + 64 * "0")
    ),
    (PART, "NotFound"): part_of_a_deleted_upload,
    (PART, "Conflict"): part_of_a_complete_upload,
    (PART, "PayloadTooLarge"): lambda world, _: world.put_part(world.tenant.announce(b"data"), b"too much"),
    (PART, "InvalidInput"): lambda world, _: world.put_part(world.tenant.announce(b"data"), b"few"),
    (PART, "Unavailable"): part_without_a_database,
    (("get", "/v1/artifacts/{artifact_id}/content"), "RangeNotSatisfiable"): partial(World.ask_own, headers={"Range": "bytes=99-"}),
}
OWN: dict[tuple[Operation, str], Request] = {
    (("post", "/v1/uploads/{upload_id}/complete"), "Conflict"): World.ask_own,
    (("post", "/v1/models"), "NotFound"): partial(made_of_an_upload, upload_id="upl_unknown"),
    (("post", "/v1/datasets"), "NotFound"): partial(made_of_an_upload, upload_id="upl_unknown"),
    (("post", "/v1/jobs"), "NotFound"): partial(World.ask, json=CREATIONS["/v1/jobs"]),
    (("post", "/v1/models"), "Conflict"): lambda world, operation: made_of_an_upload(world, operation, world.ids["upload_id"]),
    (("post", "/v1/datasets"), "Conflict"): lambda world, operation: made_of_an_upload(world, operation, world.ids["upload_id"]),
    (("delete", "/v1/models/{model_id}"), "Conflict"): World.ask_own,
    (("delete", "/v1/datasets/{dataset_id}"), "Conflict"): World.ask_own,
    (("delete", "/v1/jobs/{job_id}"), "Conflict"): World.ask_own,
    (("get", "/v1/jobs/{job_id}/report"), "Conflict"): partial(World.ask_own, headers={"Accept": "text/html"}),
    (("get", "/v1/jobs/{job_id}/report"), "NotAcceptable"): partial(World.ask, headers={"Accept": "image/png"}),
    (("post", "/v1/webhooks/{webhook_id}/test"), "Conflict"): on_a_webhook_that_is_off,
    (("post", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"), "Conflict"): on_a_webhook_that_is_off,
    (("delete", "/v1/keys/{key_id}"), "Conflict"): by_the_key_itself,
    **ONLY_IN_PRODUCTION,
    **ONLY_EMBEDDED,
}


def promised() -> list[tuple[Operation, str]]:
    """Every operation with every kind of problem that it is said to answer with."""
    return [
        (operation, response["$ref"].rpartition("/")[2])
        for operation, described in OPERATIONS.items()
        for response in described["responses"].values()
        if "$ref" in response
    ]


def request_for(operation: Operation, kind: str) -> Request | None:
    fits = kind in ANYWHERE and (kind != "NotFound" or "{" in operation[1])
    return OWN.get((operation, kind)) or (ANYWHERE[kind] if fits else None)


class TestErrors:
    def test_each_that_is_documented_has_a_request_that_reaches_it(self) -> None:
        assert [promise for promise in promised() if request_for(*promise) is None] == []
        assert OWN.keys() - set(promised()) == set(), "these are not documented any more"

    @pytest.mark.parametrize("server", ["embedded"], indirect=True)
    @pytest.mark.parametrize("kind", sorted({kind for _, kind in promised()}))
    def test_each_comes_where_it_is_documented(self, server: Server, tenant: Tenant, kind: str) -> None:
        world = World(tenant)
        wrong = [
            found
            for operation, promise in promised()
            if promise == kind and (operation, kind) not in ONLY_IN_PRODUCTION and (found := other_than(world, operation, kind))
        ]
        assert wrong == []

    @pytest.mark.parametrize("server", ["production"], indirect=True)
    def test_those_that_need_a_request_of_their_own_come_in_production_too(self, server: Server, tenant: Tenant) -> None:
        world = World(tenant)
        wrong = [
            found for operation, kind in OWN if (operation, kind) not in ONLY_EMBEDDED and (found := other_than(world, operation, kind))
        ]
        assert wrong == []


def other_than(world: World, operation: Operation, kind: str) -> str:
    """What the operation answered, if it was not this kind of problem."""
    request = request_for(operation, kind)
    assert request is not None
    answer = request(world, operation)
    is_it = answer.headers.get("content-type") == "application/problem+json" and answer.json()["type"] == KINDS[kind].urn()
    return "" if is_it and answer.status_code == KINDS[kind].status else f"{operation}: {answer.status_code} {answer.text}"
