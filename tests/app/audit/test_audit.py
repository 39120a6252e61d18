"""The audit log as its tenant reads it."""

from __future__ import annotations

import httpx

from tests.worlds.api import Server, Tenant, expect, expect_problem


def create_key(tenant: Tenant, name: str, *scopes: str) -> dict[str, str]:
    return expect(tenant.post("/v1/keys", json={"name": name, "scopes": scopes or ("read",)}), 201)


class TestListAudit:
    def test_tells_who_did_what_when_and_from_where(self, tenant: Tenant) -> None:
        own = expect(tenant.get("/v1/keys"), 200)["data"][0]["id"]
        answer = tenant.post("/v1/keys", json={"name": "CI"}, headers={"X-Forwarded-For": "6.6.6.6"})
        created = expect(answer, 201)
        entry = expect(tenant.get("/v1/audit"), 200)["data"][0]
        assert (entry["action"], entry["object_type"], entry["object_id"]) == ("key.created", "key", created["id"])
        assert (entry["key_id"], entry["tenant_id"], entry["address"]) == (own, tenant.tenant_id, "127.0.0.1")
        assert entry["request_id"] == answer.headers["x-request-id"]
        assert entry["created_at"] >= created["created_at"][:19]

    def test_says_that_the_operator_did_it(self, tenant: Tenant) -> None:
        entries = expect(tenant.get("/v1/audit"), 200)["data"]
        assert [entry["action"] for entry in entries] == ["key.created", "tenant.created"]
        assert {(entry["key_id"], entry["address"], entry["request_id"]) for entry in entries} == {(None, None, None)}

    def test_comes_in_pages_newest_first(self, tenant: Tenant) -> None:
        created = [create_key(tenant, f"key {number}")["id"] for number in range(3)]
        first = expect(tenant.get("/v1/audit?limit=2"), 200)
        assert ([entry["object_id"] for entry in first["data"]], first["has_more"]) == (created[:0:-1], True)
        second = expect(tenant.get(f"/v1/audit?limit=3&after={first['last_id']}"), 200)
        assert ([entry["object_id"] for entry in second["data"]][:1], second["has_more"]) == (created[:1], False)
        expect_problem(tenant.get("/v1/audit?after=yesterday"), 422, "query/after")

    def test_filters(self, tenant: Tenant) -> None:
        one, other = create_key(tenant, "one"), create_key(tenant, "other")
        tenant.delete(f"/v1/keys/{one['id']}")

        def found(query: str) -> list[tuple[str, str]]:
            return [(entry["action"], entry["object_id"]) for entry in expect(tenant.get(f"/v1/audit?{query}"), 200)["data"]]

        assert found("action=key.revoked") == [("key.revoked", one["id"])]
        assert found(f"object_id={one['id']}") == [("key.revoked", one["id"]), ("key.created", one["id"])]
        assert found(f"key={other['id']}") == []

    def test_is_for_administrators(self, server: Server, tenant: Tenant) -> None:
        key = create_key(tenant, "reader", "read", "write")["key"]
        expect_problem(httpx.get(f"{server.url}/v1/audit", headers={"Authorization": f"Bearer {key}"}), 403)

    def test_keeps_nothing_of_what_was_refused(self, tenant: Tenant) -> None:
        before = expect(tenant.get("/v1/audit"), 200)["data"]
        source = {"type": "upload", "files": [{"upload_id": "upl_unknown"}]}
        expect_problem(tenant.post("/v1/models", json={"name": "x", "source": source}), 404)
        expect_problem(tenant.delete(f"/v1/keys/{before[0]['object_id']}"), 409)
        assert expect(tenant.get("/v1/audit"), 200)["data"] == before
