"""Keys let their tenant in, for what their scopes say, until they end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import select

from app.auth.keys import is_well_formed, new_key
from app.auth.service import bootstrap
from app.auth.tables import ApiKeyRow
from tests.worlds.api import Server, Tenant, expect, expect_problem


def call(server: Server, key: str, method: str = "GET", path: str = "/v1/models") -> httpx.Response:
    return httpx.request(method, server.url + path, headers={"Authorization": f"Bearer {key}"})


class TestKeyForm:
    def test_is_recognised(self) -> None:
        assert is_well_formed(new_key())

    @pytest.mark.parametrize("place", [0, 5, 30, 45, 49])
    def test_betrays_a_typo(self, place: int) -> None:
        key = new_key()
        typo = key[:place] + ("x" if key[place] != "x" else "y") + key[place + 1 :]
        assert not is_well_formed(typo)

    def test_betrays_a_missing_end(self) -> None:
        assert not is_well_formed(new_key()[:-1])
        assert not is_well_formed("")


class TestAuthentication:
    def test_asks_for_a_key(self, server: Server) -> None:
        answer = httpx.get(server.url + "/v1/models")
        expect_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_tells_a_typo_from_an_unknown_key(self, server: Server) -> None:
        assert "copied whole" in expect_problem(call(server, "lus_typo"), 401)["detail"]
        assert "Nobody" in expect_problem(call(server, new_key()), 401)["detail"]

    def test_refuses_what_is_not_ascii(self, server: Server) -> None:
        expect_problem(httpx.get(server.url + "/v1/models", headers={b"Authorization": "Bearer lus_é".encode("latin-1")}), 401)

    def test_refuses_an_expired_key(self, server: Server, tenant: Tenant) -> None:
        key = expect(tenant.post("/v1/keys", json={"name": "short", "expires_at": "2999-01-01T00:00:00Z"}), 201)
        assert call(server, key["key"]).status_code == 200
        with server.runtime.write.begin() as session:
            session.get_one(ApiKeyRow, key["id"]).expires_at = datetime.now(UTC) - timedelta(seconds=1)
        assert "expired" in expect_problem(call(server, key["key"]), 401)["detail"]

    def test_refuses_a_revoked_key(self, server: Server, tenant: Tenant) -> None:
        key = expect(tenant.post("/v1/keys", json={"name": "lost"}), 201)
        assert expect(tenant.delete(f"/v1/keys/{key['id']}"), 200)["revoked_at"] is not None
        assert "revoked" in expect_problem(call(server, key["key"]), 401)["detail"]
        assert expect(tenant.delete(f"/v1/keys/{key['id']}"), 200)["revoked_at"] is not None

    def test_notes_when_a_key_was_used(self, server: Server, tenant: Tenant) -> None:
        key = expect(tenant.post("/v1/keys", json={"name": "new"}), 201)
        assert key["last_used_at"] is None
        call(server, key["key"])
        assert expect(tenant.get(f"/v1/keys/{key['id']}"), 200)["last_used_at"] is not None


class TestScopes:
    @pytest.mark.parametrize(
        ("scope", "method", "path"),
        [("read", "GET", "/v1/models"), ("write", "DELETE", "/v1/models/model_1"), ("admin", "GET", "/v1/keys")],
    )
    def test_open_what_they_name_and_nothing_else(self, server: Server, tenant: Tenant, scope: str, method: str, path: str) -> None:
        with_it = expect(tenant.post("/v1/keys", json={"name": "one", "scopes": [scope]}), 201)["key"]
        others = [name for name in ("read", "write", "admin") if name != scope]
        without = expect(tenant.post("/v1/keys", json={"name": "others", "scopes": others}), 201)["key"]
        assert call(server, with_it, method, path).status_code in (200, 404)
        assert scope in expect_problem(call(server, without, method, path), 403)["detail"]


class TestCreateKey:
    def test_shows_the_key_once(self, tenant: Tenant) -> None:
        created = expect(tenant.post("/v1/keys", json={"name": "CI"}), 201)
        assert is_well_formed(created["key"])
        assert created["key"].startswith(created["hint"].rstrip("…"))
        assert created["scopes"] == ["read", "write"]
        assert created["key"] not in tenant.get("/v1/keys").text
        assert created["key"] not in tenant.get(f"/v1/keys/{created['id']}").text

    def test_stores_no_key(self, server: Server, tenant: Tenant) -> None:
        created = expect(tenant.post("/v1/keys", json={"name": "CI"}, headers={"Idempotency-Key": "x"}), 201)
        with server.runtime.read() as session:
            row = session.get_one(ApiKeyRow, created["id"])
            assert created["key"] not in str([getattr(row, column.name) for column in ApiKeyRow.__table__.columns])

    def test_points_at_what_is_wrong(self, tenant: Tenant) -> None:
        body = {"name": " \n", "scopes": ["root"], "expires_at": "tomorrow"}
        expect_problem(tenant.post("/v1/keys", json=body), 422, "/name", "/scopes/0", "/expires_at")
        expect_problem(tenant.post("/v1/keys", json={"name": "x", "expires_at": "2001-01-01T00:00:00Z"}), 422, "/expires_at")

    @pytest.mark.parametrize(
        "moment", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59", "2999-02-30T00:00:00Z"]
    )
    def test_points_at_a_time_that_is_none(self, tenant: Tenant, moment: str) -> None:
        expect_problem(tenant.post("/v1/keys", json={"name": "x", "expires_at": moment}), 422, "/expires_at")

    def test_takes_a_time_of_any_zone(self, tenant: Tenant) -> None:
        created = expect(tenant.post("/v1/keys", json={"name": "x", "expires_at": "9999-12-31T22:00:00-01:00"}), 201)
        assert created["expires_at"] == "9999-12-31T23:00:00Z"


class TestRevokeKey:
    def test_cannot_revoke_itself(self, tenant: Tenant) -> None:
        [own] = expect(tenant.get("/v1/keys"), 200)["data"]
        expect_problem(tenant.delete(f"/v1/keys/{own['id']}"), 409)


class TestBootstrap:
    def test_gives_a_known_tenant_another_key(self, server: Server) -> None:
        with server.runtime.write.begin() as session:
            first = bootstrap(session, server.runtime.signer, tenant="acme")
        with server.runtime.write.begin() as session:
            second = bootstrap(session, server.runtime.signer, tenant="acme")
        with server.runtime.read() as session:
            owners = session.scalars(select(ApiKeyRow.tenant_id).where(ApiKeyRow.id.in_([first.id, second.id]))).all()
        assert len(owners) == 2
        assert len(set(owners)) == 1
        assert call(server, second.key, path="/v1/keys").status_code == 200
