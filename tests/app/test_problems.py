"""Everything that goes wrong is a problem document with a request id, and never a stack trace."""

from __future__ import annotations

import asyncio
import json
import threading

import httpx
import pytest
from fastapi import FastAPI

from app import health
from app.auth.keys import new_key
from app.health import ReadinessProbe
from app.main import create_app
from app.settings import Settings
from tests.worlds.api import Server, Tenant, expect_problem


class TestProblems:
    def test_name_an_unknown_address(self, tenant: Tenant) -> None:
        for path in ("/", "/v1", "/v1/nothing", "/v1/models/", "/v1/models/model_1/x", "/v1/models/%00"):
            expect_problem(tenant.get(path), 404)

    def test_name_a_wrong_method(self, tenant: Tenant) -> None:
        answer = tenant.put("/v1/models")
        expect_problem(answer, 405)
        assert answer.headers["allow"]

    def test_refuse_a_body_that_is_too_large(self, tenant: Tenant) -> None:
        limit = tenant.server.runtime.settings.max_request_bytes
        expect_problem(tenant.post("/v1/models", content=b"x" * (limit + 1)), 413)

    def test_refuse_a_large_body_of_unknown_length(self, tenant: Tenant) -> None:
        limit = tenant.server.runtime.settings.max_request_bytes
        expect_problem(tenant.post("/v1/models", content=(b" " * 65536 for _ in range(limit // 65536 + 2))), 413)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"\xff\xfe",
            b'{"name": NaN}',
            b'{"name": "\\u0000"}',
            b'{"name": "\\ud800"}',
            b"[" * 10_000,
        ],
    )
    def test_refuse_a_body_that_is_no_request(self, tenant: Tenant, body: bytes) -> None:
        answer = tenant.post("/v1/models", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
        expect_problem(answer, answer.status_code)

    def test_refuse_another_content_type(self, tenant: Tenant) -> None:
        expect_problem(tenant.post("/v1/models", content=json.dumps({"name": "x"}), headers={"Content-Type": "text/plain"}), 422)

    def test_refuse_nul_in_a_query(self, tenant: Tenant) -> None:
        expect_problem(tenant.get("/v1/models?after=%00"), 422)

    def test_point_at_the_place(self, tenant: Tenant) -> None:
        body = {"kind": "defend", "model_id": "m", "dataset_id": "d", "params": {"finetune": {"epochs": -1}}}
        expect_problem(tenant.post("/v1/jobs", json=body), 422, "/params/finetune/epochs")

    def test_carry_the_request_id(self, tenant: Tenant) -> None:
        assert tenant.get("/v1/nothing", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
        assert tenant.get("/v1/nothing", headers={"X-Request-Id": "not mine"}).headers["x-request-id"].startswith("req_")


@pytest.fixture
def broken(settings_on_disk: Settings) -> FastAPI:
    """An API whose database has no tables."""
    return create_app(settings_on_disk)


@pytest.fixture
def settings_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("broken")
    return Settings.model_validate(
        {
            "database_url": f"sqlite:///{folder / 'empty.db'}",
            "broker_url": "redis://127.0.0.1:1/0",
            "storage_url": f"file://{folder / 'objects'}",
            "secret_key": "s" * 32,
        }
    )


def ask(app: FastAPI, path: str) -> httpx.Response:
    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path, headers={"Authorization": f"Bearer {new_key()}"})

    return asyncio.run(call())


class TestFailures:
    def test_of_the_database_ask_to_come_again(self, broken: FastAPI) -> None:
        answer = ask(broken, "/v1/models")
        expect_problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
        assert "api_keys" not in answer.text

    def test_of_ours_say_only_whom_to_ask(self, broken: FastAPI) -> None:
        @broken.get("/crash")
        def crash() -> None:
            raise RuntimeError("the secret is 42")

        answer = ask(broken, "/crash")
        assert "X-Request-Id" in expect_problem(answer, 500)["detail"]
        assert answer.headers["x-request-id"]
        assert "42" not in answer.text


class TestHealth:
    def test_is_good_on_a_running_server(self, server: Server) -> None:
        assert httpx.get(server.url + "/healthz").json() == {"status": "ok"}
        ready = httpx.get(server.url + "/readyz", timeout=30)
        assert (ready.status_code, ready.json()["checks"]) == (200, {"database": "ok", "storage": "ok", "broker": "ok"})

    def test_names_what_is_broken(self, broken: FastAPI) -> None:
        answer = ask(broken, "/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "checks": {"database": "failed", "storage": "ok", "broker": "failed"}}

    def test_is_looked_at_once_a_second_however_many_ask(self, broken: FastAPI) -> None:
        looked = []
        probe = ReadinessProbe(broken.state.runtime, {"database": lambda _: looked.append(1)})

        async def ask_together() -> None:
            for _ in range(2):
                assert await asyncio.gather(*(probe.look() for _ in range(20))) == [{"database": "ok"}] * 20

        asyncio.run(ask_together())
        probe.close()
        assert len(looked) == 1

    def test_fails_where_something_hangs_and_waits_for_it_in_one_thread(self, broken: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "PROBE_SECONDS", 0.05)
        monkeypatch.setattr(health, "GOOD_FOR", 0.0)
        begun, released = [], threading.Event()

        def hang(_: object) -> None:
            begun.append(1)
            released.wait(30)

        probe = ReadinessProbe(broken.state.runtime, {"broker": hang, "database": lambda _: None})

        async def ask_again() -> None:
            for _ in range(3):
                assert await probe.look() == {"broker": "failed", "database": "ok"}
            assert len(begun) == 1
            released.set()
            await asyncio.sleep(0.05)
            assert await probe.look() == {"broker": "ok", "database": "ok"}

        asyncio.run(ask_again())
        probe.close()

    def test_counts_invented_methods_under_one_name(self, server: Server, tenant: Tenant) -> None:
        for number in range(3):
            tenant.request(f"BREW{number}", "/v1/models")
        metrics = httpx.get(server.url + "/metrics").text
        assert "BREW" not in metrics
        assert 'lustral_http_requests_total{method="other"' in metrics

    def test_tells_prometheus(self, server: Server, tenant: Tenant) -> None:
        tenant.get("/v1/models/model_unknown")
        metrics = httpx.get(server.url + "/metrics").text
        assert 'lustral_http_requests_total{method="GET",route="/v1/models/{model_id}",status="404"}' in metrics
        assert "model_unknown" not in metrics
