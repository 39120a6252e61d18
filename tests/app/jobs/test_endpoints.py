"""`/v1/jobs` as clients meet it, over HTTP, on both profiles."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from typing import Any

import pytest

from app.artifacts.tables import ArtifactRow
from app.blobs.service import adopt
from app.db import database_now
from app.ids import new_id
from tests.worlds.api import Server, Tenant, expect, expect_problem
from tests.worlds.jobs import World


@pytest.fixture
def world(server: Server, tenant: Tenant) -> World:
    return World(server.runtime.write, tenant.tenant_id)


def body(world: World, **fields: Any) -> dict[str, Any]:
    return {"kind": "scan", "model_id": world.model(), "dataset_id": world.dataset(), **fields}


def create(tenant: Tenant, world: World, **fields: Any) -> str:
    job_id: str = expect(tenant.post("/v1/jobs", json=body(world, **fields)), 201)["id"]
    return job_id


def finish(world: World, job_id: str, result: dict[str, Any] | None = None) -> None:
    while world.get(job_id).finished_at is None:
        world.complete(world.claim_next(job_id), result)


class TestCreate:
    def test_answers_with_the_job_and_every_parameter(self, tenant: Tenant, world: World) -> None:
        sent = body(world, kind="defend", params={"seed": 7, "masking": {"ratio": 0.5}}, metadata={"ticket": "42"})
        job = expect(tenant.post("/v1/jobs", json=sent), 201)
        assert job["object"] == "job"
        assert (job["kind"], job["status"], job["stage"], job["progress"], job["attempts"]) == ("defend", "queued", None, None, 0)
        assert (job["model_id"], job["dataset_id"], job["metadata"]) == (sent["model_id"], sent["dataset_id"], {"ticket": "42"})
        assert (job["params"]["seed"], job["params"]["masking"]["ratio"], job["params"]["masking"]["probes"]) == (7, 0.5, 6)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", job["created_at"])
        assert (job["error"], job["result"], job["started_at"], job["finished_at"]) == (None, None, None, None)
        assert expect(tenant.get(f"/v1/jobs/{job['id']}"), 200)["params"] == job["params"]

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"kind": "heal"}, "/kind"),
            ({"params": {"masking": {"ratio": 1.5}}}, "/params/masking/ratio"),
            ({"params": {"maskin": {}}}, "/params/maskin"),
            ({"dataset_id": None}, "/dataset_id"),
            ({"kind": "evaluate", "dataset_id": None}, "/evaluation"),
            ({"evaluation": {}}, "/evaluation"),
            ({"metadata": {"long": "x" * 513}}, "/metadata/long"),
            ({"webhook_url": "ftp://hooks.example/"}, "/webhook_url"),
            ({"colour": "red"}, "/colour"),
        ],
    )
    def test_points_at_what_is_wrong(self, tenant: Tenant, world: World, fields: dict[str, Any], pointer: str) -> None:
        expect_problem(tenant.post("/v1/jobs", json=body(world, **fields)), 422, pointer)
        assert expect(tenant.get("/v1/jobs"), 200)["data"] == []

    @pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "(" * 999 + ")" * 999])
    def test_refuses_a_pattern_that_is_none(self, tenant: Tenant, world: World, pattern: str) -> None:
        evaluation = {"triggered_dataset_id": world.dataset(), "target": {"regex": pattern}}
        problem = expect_problem(tenant.post("/v1/jobs", json=body(world, evaluation=evaluation)), 422)
        assert "not a regular expression" in problem["detail"]

    @pytest.mark.parametrize("target", [{"contains": "Sorry", "regex": "S.rry"}, {}, {"containz": "Sorry"}])
    def test_asks_for_one_form_of_target(self, tenant: Tenant, world: World, target: dict[str, str]) -> None:
        evaluation = {"triggered_dataset_id": world.dataset(), "target": target}
        problem = expect_problem(tenant.post("/v1/jobs", json=body(world, evaluation=evaluation)), 422, "/evaluation/target")
        assert problem["errors"][0]["detail"] == "give one of contains or regex"

    def test_knows_nothing_of_what_others_own(self, tenant: Tenant, stranger: Tenant, world: World) -> None:
        sent = {**body(world), "evaluation": {"clean_dataset_id": world.dataset()}}
        foreign = expect_problem(stranger.post("/v1/jobs", json=sent), 404, "/dataset_id", "/evaluation/clean_dataset_id", "/model_id")
        unknown = {"kind": "scan", "model_id": "model_unknown", "dataset_id": "dset_unknown", "evaluation": {"clean_dataset_id": "dset_?"}}
        nobody = expect_problem(tenant.post("/v1/jobs", json=unknown), 404, "/dataset_id", "/evaluation/clean_dataset_id", "/model_id")
        assert (foreign["type"], foreign["title"]) == (nobody["type"], nobody["title"])
        assert expect(stranger.get("/v1/jobs"), 200)["data"] == []

    def test_refuses_inputs_that_were_rejected(self, tenant: Tenant, world: World) -> None:
        expect_problem(tenant.post("/v1/jobs", json=body(world, model_id=world.model(status="rejected"))), 422, "/model_id")

    def test_refuses_inputs_of_the_wrong_kind(self, tenant: Tenant, world: World) -> None:
        swapped = {"kind": "scan", "model_id": world.dataset(), "dataset_id": world.model()}
        problem = expect_problem(tenant.post("/v1/jobs", json=swapped), 422, "/dataset_id", "/model_id")
        assert problem["errors"][1]["detail"] == f"{swapped['model_id']} is a data set; name a model"

    def test_waits_for_inputs_that_are_still_inspected(self, tenant: Tenant, world: World) -> None:
        model_id = world.model(status="inspecting")
        inspection = world.inspect(model_id)
        job_id = create(tenant, world, model_id=model_id)
        assert {status for _, status in world.statuses(job_id)} == {"blocked"}
        world.finish_inspection(inspection, accepted=True)
        assert ("scan", "ready") in world.statuses(job_id)

    def test_echoes_the_evaluation_sets(self, tenant: Tenant, world: World) -> None:
        evaluation = {"triggered_dataset_id": world.dataset(), "clean_dataset_id": world.dataset(), "target": {"contains": "Sorry"}}
        job = expect(tenant.post("/v1/jobs", json=body(world, evaluation=evaluation)), 201)
        assert job["evaluation"] == evaluation

    def test_with_the_same_key_twice_creates_one_job(self, tenant: Tenant, world: World) -> None:
        sent = body(world)
        first, second = (expect(tenant.post("/v1/jobs", json=sent, headers={"Idempotency-Key": "one"}), 201) for _ in range(2))
        assert first == second
        assert len(expect(tenant.get("/v1/jobs"), 200)["data"]) == 1

    def test_with_a_webhook_shows_its_secret_once(self, tenant: Tenant, world: World) -> None:
        job = expect(tenant.post("/v1/jobs", json=body(world, webhook_url="https://hooks.example/lustral")), 201)
        assert job["webhook_secret"].startswith("whsec_")
        assert "webhook_secret" not in expect(tenant.get(f"/v1/jobs/{job['id']}"), 200)
        [webhook] = expect(tenant.get("/v1/webhooks"), 200)["data"]
        [delivery] = expect(tenant.get(f"/v1/webhooks/{webhook['id']}/deliveries"), 200)["data"]
        assert (delivery["type"], delivery["payload"]["data"]["id"]) == ("job.queued", job["id"])
        create(tenant, world)
        assert len(expect(tenant.get(f"/v1/webhooks/{webhook['id']}/deliveries"), 200)["data"]) == 1, "it hears of its own job only"


class TestShow:
    def test_tells_how_far_the_stage_is_over_all_its_parts(self, tenant: Tenant, world: World) -> None:
        from app.jobs.leases import save_progress

        job_id = create(tenant, world, params={"shards": 2})
        lease = world.claim_next(job_id)
        with world.sessions.begin() as session:
            save_progress(session, lease, {"done": 30, "total": 50, "unit": "samples", "per_second": 2.0})
        job = expect(tenant.get(f"/v1/jobs/{job_id}"), 200)
        assert (job["status"], job["stage"], job["attempts"]) == ("running", "scan", 1)
        assert job["progress"] == {"done": 30, "total": 100, "unit": "samples", "eta_seconds": 35}

    def test_of_an_unknown_job_is_404_like_that_of_a_foreign_one(self, tenant: Tenant, stranger: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        for path in ("", "/events", "/report", "/artifacts"):
            expect_problem(tenant.get(f"/v1/jobs/job_unknown{path}"), 404)
            expect_problem(stranger.get(f"/v1/jobs/{job_id}{path}"), 404)
        expect_problem(stranger.post(f"/v1/jobs/{job_id}/cancel"), 404)
        expect_problem(stranger.delete(f"/v1/jobs/{job_id}"), 404)


class TestList:
    def test_filters_by_status_kind_and_model(self, tenant: Tenant, world: World) -> None:
        scan, purify = create(tenant, world), create(tenant, world, kind="purify")
        finish(world, scan)
        model_id = world.get(purify).model_id
        assert _ids(tenant, "") == [purify, scan]
        assert _ids(tenant, "?status=succeeded") == [scan]
        assert _ids(tenant, "?kind=purify") == [purify]
        assert _ids(tenant, f"?model={model_id}") == [purify]
        assert _ids(tenant, f"?model={model_id}&status=failed") == []
        expect_problem(tenant.get("/v1/jobs?status=done"), 422)

    def test_comes_in_pages_newest_first(self, tenant: Tenant, world: World) -> None:
        created = [create(tenant, world) for _ in range(3)]
        first = expect(tenant.get("/v1/jobs?limit=2"), 200)
        assert ([job["id"] for job in first["data"]], first["has_more"]) == (created[:0:-1], True)
        second = expect(tenant.get(f"/v1/jobs?limit=2&after={first['last_id']}"), 200)
        assert ([job["id"] for job in second["data"]], second["has_more"]) == (created[:1], False)


class TestSteps:
    def test_are_shown_in_the_order_in_which_they_run_with_every_attempt(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world, params={"shards": 2})
        lease = world.claim_next(job_id)
        world.fail(lease, detail="no room left")
        page = expect(tenant.get(f"/v1/jobs/{job_id}/steps?limit=2"), 200)
        assert [(step["kind"], step["shard"], step["shards"]) for step in page["data"]] == [("scan", 0, 2), ("scan", 1, 2)]
        failed, waiting = page["data"]
        [attempt] = failed["attempts"]
        assert (attempt["number"], attempt["outcome"], attempt["error"]["detail"]) == (1, "failed", "no room left")
        assert attempt["worker"]
        assert attempt["started_at"] <= attempt["ended_at"] <= failed["next_attempt_at"]
        assert (waiting["status"], waiting["attempts"]) == ("ready", [])
        rest = expect(tenant.get(f"/v1/jobs/{job_id}/steps?after={page['last_id']}"), 200)
        assert ([step["kind"] for step in rest["data"]], rest["has_more"]) == (["verdict", "publish"], False)
        world.claimed(waiting["id"])
        assert expect(tenant.get(f"/v1/jobs/{job_id}/steps"), 200)["data"][1]["attempts"][0]["outcome"] == "running"


class TestCancel:
    def test_is_idempotent(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        world.claim_next(job_id)
        for _ in range(2):
            assert expect(tenant.post(f"/v1/jobs/{job_id}/cancel"), 200)["status"] == "cancelling"

    def test_of_a_queued_job_is_done_at_once(self, tenant: Tenant, world: World) -> None:
        assert expect(tenant.post(f"/v1/jobs/{create(tenant, world)}/cancel"), 200)["status"] == "cancelled"

    def test_leaves_a_finished_job_as_it_is(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        finish(world, job_id)
        assert expect(tenant.post(f"/v1/jobs/{job_id}/cancel"), 200)["status"] == "succeeded"


class TestDelete:
    def test_of_a_job_that_is_not_over_is_refused(self, tenant: Tenant, world: World) -> None:
        expect_problem(tenant.delete(f"/v1/jobs/{create(tenant, world)}"), 409)

    def test_removes_the_job_and_has_its_bytes_removed(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        finish(world, job_id)
        _leave_report(tenant, world, job_id, "report.json", b"{}")
        world.bells("sweep")
        assert tenant.delete(f"/v1/jobs/{job_id}").status_code == 204
        assert world.bells("sweep") == [job_id]
        expect_problem(tenant.get(f"/v1/jobs/{job_id}"), 404)


class TestEvents:
    def test_are_listed_newest_first_or_in_order(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        finish(world, job_id)
        newest = expect(tenant.get(f"/v1/jobs/{job_id}/events?limit=3"), 200)
        assert newest["data"][0]["type"] == "job.succeeded"
        assert newest["has_more"] is True
        older = expect(tenant.get(f"/v1/jobs/{job_id}/events?after={newest['last_id']}"), 200)
        forward = expect(tenant.get(f"/v1/jobs/{job_id}/events?order=asc"), 200)
        assert [*newest["data"], *older["data"]] == forward["data"][::-1]
        assert forward["data"][0]["type"] == "job.queued"
        expect_problem(tenant.get(f"/v1/jobs/{job_id}/events?after=yesterday"), 422)

    def test_stream_to_the_end_of_the_job(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        with tenant.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = response.iter_lines()
            assert _next_event(lines)["type"] == "job.queued"
            worker = threading.Thread(target=finish, args=[world, job_id])
            worker.start()
            seen = [event["type"] for event in iter(lambda: _next_event(lines), None)]
            worker.join()
        assert seen == world.event_types(job_id)[1:]
        assert seen[-1] == "job.succeeded"

    def test_resume_where_the_client_left_off(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        finish(world, job_id)
        everything = _stream(tenant, job_id)
        for seen in (0, 2, len(everything) - 1):
            assert _stream(tenant, job_id, everything[seen]["id"]) == everything[seen + 1 :]

    def test_tell_a_client_that_has_seen_them_all_not_to_come_back(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        finish(world, job_id)
        last = _stream(tenant, job_id)[-1]["id"]
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        assert tenant.get(f"/v1/jobs/{job_id}/events", headers=headers).status_code == 204


class TestReport:
    def test_comes_in_the_form_that_was_asked_for(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        finish(world, job_id)
        _leave_report(tenant, world, job_id, "report.json", b'{"object": "report"}')
        _leave_report(tenant, world, job_id, "report.html", b"<!doctype html>")
        path = f"/v1/jobs/{job_id}/report"
        assert tenant.get(path).json() == {"object": "report"}
        page = tenant.get(path, headers={"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})
        assert (page.headers["content-type"], page.text) == ("text/html; charset=utf-8", "<!doctype html>")
        assert "sandbox" in page.headers["content-security-policy"]
        assert page.headers["repr-digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(b'<!doctype html>').digest()).decode()}:"
        sarif = {"Accept": "application/sarif+json"}
        assert "left no report.sarif" in expect_problem(tenant.get(path, headers=sarif), 404)["detail"]
        _leave_report(tenant, world, job_id, "report.sarif", b'{"version": "2.1.0"}')
        log = tenant.get(path, headers=sarif)
        assert (log.headers["content-type"], log.json()) == ("application/sarif+json", {"version": "2.1.0"})
        expect_problem(tenant.get(path, headers={"Accept": "application/pdf"}), 406)

    def test_of_a_job_that_is_not_over_is_a_conflict(self, tenant: Tenant, world: World) -> None:
        expect_problem(tenant.get(f"/v1/jobs/{create(tenant, world)}/report"), 409)

    def test_of_a_cancelled_job_does_not_exist(self, tenant: Tenant, world: World) -> None:
        job_id = create(tenant, world)
        world.cancel(job_id)
        expect_problem(tenant.get(f"/v1/jobs/{job_id}/report"), 404)


def _ids(tenant: Tenant, query: str) -> list[str]:
    return [job["id"] for job in expect(tenant.get(f"/v1/jobs{query}"), 200)["data"]]


def _next_event(lines: Any) -> Any:
    """The next event of a stream, or None at its end."""
    for line in lines:
        if line.startswith("data: "):
            return json.loads(line.removeprefix("data: "))
    return None


def _stream(tenant: Tenant, job_id: str, last_event_id: str | None = None) -> list[dict[str, Any]]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    response = tenant.get(f"/v1/jobs/{job_id}/events", headers=headers)
    return [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line.startswith("data: ")]


def _leave_report(tenant: Tenant, world: World, job_id: str, name: str, content: bytes) -> None:
    key = f"jobs/{job_id}/steps/step_1/attempts/1/{name}"
    tenant.server.runtime.store.put_bytes(key, content)
    sha256 = hashlib.sha256(content).hexdigest()
    with world.sessions.begin() as session:
        row = ArtifactRow(
            id=new_id("art"),
            tenant_id=tenant.tenant_id,
            job_id=job_id,
            name=name,
            kind="report",
            key=key,
            sha256=sha256,
            bytes=len(content),
            media_type="application/json",
            created_at=database_now(session),
        )
        session.add(row)
        adopt(session, tenant_id=tenant.tenant_id, owner_id=row.id, key=key, sha256=sha256, bytes=len(content))
