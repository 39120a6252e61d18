"""The same request, sent again, does nothing twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import select

from app.housekeeping import keep_house
from app.idempotency.tables import IdempotencyKeyRow
from tests.worlds.api import Server, Tenant, expect, expect_problem

ONCE = {"Idempotency-Key": "the first of May"}


def create_key(tenant: Tenant, name: str = "CI", headers: dict[str, str] = ONCE) -> httpx.Response:
    return tenant.post("/v1/keys", json={"name": name}, headers=headers)


def names(tenant: Tenant) -> list[str]:
    return sorted(key["name"] for key in expect(tenant.get("/v1/keys"), 200)["data"])


class TestIdempotencyKey:
    def test_gives_the_first_answer_again(self, tenant: Tenant) -> None:
        first, second = create_key(tenant), create_key(tenant)
        assert (second.status_code, second.json()) == (201, first.json())
        assert second.headers["idempotent-replayed"] == "true"
        assert names(tenant) == ["CI", "first key"]

    def test_minds_the_content_and_not_the_spelling(self, tenant: Tenant) -> None:
        bodies = ['{"name": "CI", "scopes": ["read"]}', '{"scopes":["read"],  "name":"CI"}']
        first, second = (tenant.post("/v1/keys", content=body, headers={**ONCE, "Content-Type": "application/json"}) for body in bodies)
        assert first.json() == second.json()

    @pytest.mark.parametrize("path", ["/v1/jobs", "/v1/webhooks", "/v1/keys", "/v1/uploads", "/v1/models", "/v1/datasets"])
    @pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
    def test_leaves_a_body_that_is_nested_too_deep_to_another_check(self, tenant: Tenant, path: str, media_type: str) -> None:
        expect_problem(self.post_nested(tenant, path, media_type), 422)

    @pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
    def test_minds_no_body_where_none_is_needed(self, tenant: Tenant, media_type: str) -> None:
        webhook = f"/v1/webhooks/{expect(tenant.post('/v1/webhooks', json={'url': 'https://example.com'}), 201)['id']}"
        delivery_id = expect(self.post_nested(tenant, f"{webhook}/test", media_type), 202)["id"]
        expect(self.post_nested(tenant, f"{webhook}/deliveries/{delivery_id}/redeliver", media_type), 202)
        expect(self.post_nested(tenant, f"{webhook}/rotate-secret", media_type), 200)

    def post_nested(self, tenant: Tenant, path: str, media_type: str) -> httpx.Response:
        return tenant.post(path, content=b"[" * 100_000, headers={"Content-Type": media_type})

    def test_refuses_another_request(self, tenant: Tenant) -> None:
        create_key(tenant)
        expect_problem(create_key(tenant, "other"), 422)
        expect_problem(tenant.post("/v1/webhooks", json={"url": "https://example.com"}, headers=ONCE), 422)
        assert names(tenant) == ["CI", "first key"]

    def test_belongs_to_its_tenant(self, tenant: Tenant, stranger: Tenant) -> None:
        assert create_key(tenant).json()["id"] != create_key(stranger).json()["id"]

    def test_is_not_used_up_by_an_error(self, tenant: Tenant) -> None:
        expect_problem(create_key(tenant, "\n"), 422)
        expect(create_key(tenant), 201)

    def test_creates_once_however_many_ask_at_once(self, tenant: Tenant) -> None:
        together = threading.Barrier(6)

        def ask(_: int) -> httpx.Response:
            together.wait()
            return create_key(tenant)

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(ask, range(6)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
        assert names(tenant) == ["CI", "first key"]

    def test_is_forgotten_after_a_day(self, server: Server, tenant: Tenant) -> None:
        first = create_key(tenant)
        with server.runtime.write.begin() as session:
            row = session.scalars(select(IdempotencyKeyRow).where(IdempotencyKeyRow.tenant_id == tenant.tenant_id)).one()
            assert timedelta(hours=23) < row.expires_at - datetime.now(UTC) <= timedelta(hours=24)
            row.expires_at = datetime.now(UTC)
        assert create_key(tenant).json()["id"] != first.json()["id"]

    def test_is_swept_by_housekeeping(self, server: Server, tenant: Tenant) -> None:
        create_key(tenant)
        mine = select(IdempotencyKeyRow).where(IdempotencyKeyRow.tenant_id == tenant.tenant_id)
        with server.runtime.write.begin() as session:
            session.scalars(mine).one().expires_at = datetime.now(UTC)
        keep_house(server.runtime)
        with server.runtime.read() as session:
            assert session.scalars(mine).one_or_none() is None

    def test_keeps_no_secret_in_the_clear(self, server: Server, tenant: Tenant) -> None:
        key = create_key(tenant).json()["key"]
        with server.runtime.read() as session:
            row = session.scalars(select(IdempotencyKeyRow).where(IdempotencyKeyRow.tenant_id == tenant.tenant_id)).one()
        assert key.encode() not in row.response

    @pytest.mark.parametrize("key", ["", "x" * 256])
    def test_has_a_sensible_length(self, tenant: Tenant, key: str) -> None:
        expect_problem(create_key(tenant, headers={"Idempotency-Key": key}), 422, "header/Idempotency-Key")
