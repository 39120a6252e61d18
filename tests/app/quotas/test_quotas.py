"""A tenant may have so much at once, and is told what it has, what it may have, and what to do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.auth.repository import find_tenant_by_name
from app.auth.tables import TenantRow
from app.cli.operate import cli
from app.jobs.tables import StepRow
from app.quotas.service import set_limits
from app.settings import Settings, load_settings
from tests.worlds.api import Server, Tenant, expect, expect_problem
from tests.worlds.jobs import World


def limit(tenant: Tenant, **limits: int | None) -> None:
    """As its operator would."""
    runtime = tenant.server.runtime
    with runtime.write.begin() as session:
        set_limits(session, runtime.settings, session.get_one(TenantRow, tenant.tenant_id).name, limits, set())


def announce(tenant: Tenant, bytes: int = 1) -> httpx.Response:
    return tenant.post("/v1/uploads", json={"filename": "file.bin", "bytes": bytes})


def usage(tenant: Tenant) -> dict[str, Any]:
    return expect(tenant.get("/v1/usage"), 200)


class TestLimits:
    def test_of_open_uploads(self, tenant: Tenant) -> None:
        limit(tenant, open_uploads=1)
        expect(announce(tenant), 201)
        refusal = announce(tenant)
        problem = expect_problem(refusal, 429)
        assert problem["type"] == "urn:lustral:problem:quota-exceeded"
        assert problem["quota"] == {"name": "open_uploads", "limit": 1, "used": 1, "requested": 1}
        assert "Complete or delete some" in problem["detail"]
        assert int(refusal.headers["retry-after"]) > 0
        assert usage(tenant)["open_uploads"] == {"used": 1, "limit": 1}

    def test_of_stored_bytes_counts_what_is_stored_uploaded_and_fetched(self, server: Server, tenant: Tenant) -> None:
        limit(tenant, stored_bytes=100)
        model = tenant.register("models", tenant.upload(b"x" * 40))
        expect(announce(tenant, 20), 201)
        world = World(server.runtime.write, tenant.tenant_id)
        step_id = world.inspect(world.dataset(status="inspecting"))
        with server.runtime.write.begin() as session:
            session.get_one(StepRow, step_id).reserved_bytes = 30
        problem = expect_problem(announce(tenant, 11), 429)
        assert problem["quota"] == {"name": "stored_bytes", "limit": 100, "used": 90, "requested": 11}
        expect(announce(tenant, 10), 201)
        assert usage(tenant)["stored_bytes"] == {"used": 100, "limit": 100}
        job = {"kind": "scan", "model_id": model["id"], "dataset_id": world.dataset()}
        assert "Delete models" in expect_problem(tenant.post("/v1/jobs", json=job), 429)["detail"], "there is no room for its outputs"

    def test_of_unfinished_jobs(self, server: Server, tenant: Tenant) -> None:
        limit(tenant, unfinished_jobs=1)
        world = World(server.runtime.write, tenant.tenant_id)
        job = {"kind": "scan", "model_id": world.model(), "dataset_id": world.dataset()}
        first = expect(tenant.post("/v1/jobs", json=job), 201)
        assert expect_problem(tenant.post("/v1/jobs", json=job), 429)["quota"]["name"] == "unfinished_jobs"
        tenant.post(f"/v1/jobs/{first['id']}/cancel")
        expect(tenant.post("/v1/jobs", json=job), 201)

    def test_hold_when_many_ask_at_once(self, server: Server, tenant: Tenant) -> None:
        limit(tenant, open_uploads=3, unfinished_jobs=2)
        world = World(server.runtime.write, tenant.tenant_id)
        job = {"kind": "scan", "model_id": world.model(), "dataset_id": world.dataset()}
        with ThreadPoolExecutor(8) as pool:
            uploads = [pool.submit(announce, tenant) for _ in range(8)]
            jobs = [pool.submit(tenant.post, "/v1/jobs", json=job) for _ in range(6)]
        assert sorted(answer.result().status_code for answer in uploads) == [201] * 3 + [429] * 5
        assert sorted(answer.result().status_code for answer in jobs) == [201] * 2 + [429] * 4

    def test_of_others_are_their_own(self, tenant: Tenant, stranger: Tenant) -> None:
        limit(tenant, open_uploads=0)
        expect_problem(announce(tenant), 429)
        expect(announce(stranger), 201)


class TestOperator:
    @pytest.fixture
    def name(self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> str:
        settings: Settings = server.runtime.settings
        monkeypatch.setattr("app.settings.load_settings", lambda: settings)
        load_settings.cache_clear()
        with server.runtime.read() as session:
            return session.get_one(TenantRow, tenant.tenant_id).name

    @pytest.mark.parametrize("server", ["embedded"], indirect=True)
    def test_sets_and_takes_back_limits_of_one_tenant(self, server: Server, tenant: Tenant, name: str) -> None:
        default = usage(tenant)
        done = CliRunner().invoke(cli, ["limits", name, "--stored-bytes", "1000", "--job-seconds", "none"])
        assert done.exit_code == 0, done.output
        assert (usage(tenant)["stored_bytes"]["limit"], usage(tenant)["job_seconds"]) == (1000, None)
        assert expect(tenant.get("/v1/audit?action=tenant.limits_changed"), 200)["data"][0]["object_id"] == tenant.tenant_id
        CliRunner().invoke(cli, ["limits", name, "--stored-bytes", "default", "--job-seconds", "default"])
        assert usage(tenant) == default
        assert len(expect(tenant.get("/v1/audit?action=tenant.limits_changed"), 200)["data"]) == 2

    @pytest.mark.parametrize("server", ["embedded"], indirect=True)
    def test_is_told_what_was_wrong(self, server: Server, name: str) -> None:
        for arguments in (["nobody"], [name, "--open-uploads", "many"], [name, "--open-uploads", "none"], [name, "--job-seconds", "0"]):
            assert CliRunner().invoke(cli, ["limits", *arguments]).exit_code != 0, arguments
        with server.runtime.read() as session:
            found = find_tenant_by_name(session, name)
        assert found is not None
        assert found.limits is None
