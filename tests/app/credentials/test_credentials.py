"""Credentials are kept for the tenant who set them, and shown to nobody."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from app.audit.tables import AuditRow
from app.credentials.service import OpenCredential, open_credential, reseal_credentials
from app.credentials.tables import CredentialRow
from app.credentials.vault import Sealed, Vault
from app.settings import Settings
from tests.app.conftest import CREDENTIAL_KEY
from tests.worlds.api import Server, Tenant, expect, expect_problem, run_server

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def s3(**fields: Any) -> dict[str, Any]:
    return {"type": "s3", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": SECRET, **fields}


def opened(server: Server, tenant: Tenant, scope: str, type: str = "s3") -> OpenCredential | None:
    with server.runtime.read() as session:
        return open_credential(session, Vault.of(server.runtime.settings), tenant.tenant_id, type, scope)


class TestSet:
    def test_shows_how_they_begin_and_never_the_secret(self, server: Server, tenant: Tenant) -> None:
        kept = expect(tenant.post("/v1/credentials", json=s3(scope="bucket", region="eu-west-1", session_token="temporary")), 201)
        assert (kept["scope"], kept["region"], kept["hint"]) == ("bucket", "eu-west-1", "AKIA…")
        answers = [tenant.get("/v1/credentials").text, tenant.get(f"/v1/credentials/{kept['id']}").text, str(kept)]
        assert not [answer for answer in answers if SECRET in answer or "temporary" in answer or "EXAMPLE" in answer]
        with server.runtime.read() as session:
            row = session.get_one(CredentialRow, kept["id"])
        assert SECRET.encode() not in row.sealed
        found = opened(server, tenant, "bucket")
        assert found is not None
        assert found.secrets["secret_access_key"] == SECRET
        assert SECRET not in repr(found)

    def test_takes_the_place_of_those_of_the_same_scope(self, server: Server, tenant: Tenant) -> None:
        first = expect(tenant.post("/v1/credentials", json={"type": "huggingface", "token": "hf_old"}), 201)
        second = expect(tenant.post("/v1/credentials", json={"type": "huggingface", "token": "hf_new"}), 201)
        assert first["id"] == second["id"]
        assert len(expect(tenant.get("/v1/credentials"), 200)["data"]) == 1
        found = opened(server, tenant, "anybody", "huggingface")
        assert found is not None
        assert found.secrets == {"token": "hf_new"}

    def test_prefers_those_of_the_bucket_to_those_of_all(self, server: Server, tenant: Tenant, stranger: Tenant) -> None:
        tenant.post("/v1/credentials", json=s3(region="everywhere"))
        tenant.post("/v1/credentials", json=s3(scope="mine", region="here"))
        assert [(found := opened(server, tenant, scope)) and found.region for scope in ("mine", "other")] == ["here", "everywhere"]
        assert opened(server, stranger, "mine") is None

    def test_is_noted_in_the_audit_log(self, server: Server, tenant: Tenant) -> None:
        kept = expect(tenant.post("/v1/credentials", json=s3()), 201)
        assert tenant.delete(f"/v1/credentials/{kept['id']}").status_code == 204
        with server.runtime.read() as session:
            noted = session.scalars(select(AuditRow.action).where(AuditRow.subject_id == kept["id"]).order_by(AuditRow.id)).all()
        assert noted == ["credential.set", "credential.deleted"]
        expect_problem(tenant.get(f"/v1/credentials/{kept['id']}"), 404)

    def test_needs_a_key_with_the_scope_admin(self, tenant: Tenant) -> None:
        key = expect(tenant.post("/v1/keys", json={"name": "CI", "scopes": ["read", "write"]}), 201)["key"]
        headers = {"Authorization": f"Bearer {key}"}
        expect_problem(tenant.post("/v1/credentials", json=s3(), headers=headers), 403)
        expect(tenant.get("/v1/credentials", headers=headers), 200)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"endpoint_url": "ftp://host"},
            {"endpoint_url": "https://user:password@host"},
            {"endpoint_url": "https://host/path"},
            {"endpoint_url": "https://169.254.169.254"},
            {"scope": "Not A Bucket"},
            {"region": "evil.example/"},
            {"secret_access_key": "two words"},
            {"secret_access_key": "line\nbreak"},
        ],
        ids=str,
    )
    def test_points_at_what_is_wrong_and_does_not_repeat_it(self, tenant: Tenant, wrong: dict[str, str]) -> None:
        problem = expect_problem(tenant.post("/v1/credentials", json=s3(**wrong)), 422, f"/{next(iter(wrong))}")
        assert SECRET not in str(problem)

    def test_lets_nobody_reach_private_addresses_of_a_shared_server(self, server: Server, tenant: Tenant) -> None:
        for url in ("https://10.0.0.1", "https://minio.internal", "https://169.254.169.254"):
            expect_problem(tenant.post("/v1/credentials", json=s3(endpoint_url=url)), 422, "/endpoint_url")
        for url in ("https://127.0.0.1:8333", "https://[::1]", "https://2130706433"):
            answer = tenant.post("/v1/credentials", json=s3(endpoint_url=url))
            if server.runtime.settings.source_reach == "loopback":
                expect(answer, 201)
            else:
                expect_problem(answer, 422, "/endpoint_url")

    def test_is_refused_where_the_operator_set_no_key(self, server: Server) -> None:
        with run_server(server.runtime.settings.model_copy(update={"credential_keys": None})) as keyless, keyless.new_tenant() as tenant:
            assert "LUSTRAL_CREDENTIAL_KEYS" in expect_problem(tenant.post("/v1/credentials", json=s3()), 409)["detail"]


class TestKeys:
    def test_can_be_changed_without_asking_the_tenants(self, server: Server, tenant: Tenant) -> None:
        kept = expect(tenant.post("/v1/credentials", json=s3()), 201)
        new = Fernet.generate_key().decode()
        with server.runtime.write() as session:  # rolled back: other tests read theirs with the old key
            assert open_credential(session, Vault([new, CREDENTIAL_KEY]), tenant.tenant_id, "s3", "x") is not None
            assert reseal_credentials(session, Vault([new, CREDENTIAL_KEY])) >= 1
            session.flush()
            assert Vault([new]).open(session.get_one(CredentialRow, kept["id"]).sealed)["secret_access_key"] == SECRET
            with pytest.raises(Sealed):
                open_credential(session, Vault([CREDENTIAL_KEY]), tenant.tenant_id, "s3", "x")

    def test_must_be_fernet_keys(self) -> None:
        with pytest.raises(ValueError, match="32 bytes"):
            Settings(database_url="x", broker_url="x", storage_url="x", secret_key="x" * 32, credential_keys="short")
