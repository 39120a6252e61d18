"""Models and data sets are registered from uploads and artifacts, and take their bytes with them when they go."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.datasets.tables import DatasetRow
from app.jobs import leases
from app.jobs.states import problem
from app.jobs.tables import OutboxRow, StepRow
from app.models.tables import ModelRow
from tests.worlds.api import Server, Tenant, expect, expect_problem
from tests.worlds.jobs import World


@pytest.fixture(params=["models", "datasets"])
def noun(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def source(*files: tuple[str | None, str]) -> dict[str, Any]:
    return {"name": "suspect", "source": {"type": "upload", "files": [{"path": path, "upload_id": id} for path, id in files]}}


def finish_inspection(server: Server, subject_id: str, **values: Any) -> None:
    with server.runtime.write.begin() as session:
        row = session.get_one(ModelRow if subject_id.startswith("model_") else DatasetRow, subject_id)
        for name, value in values.items():
            setattr(row, name, value)


class TestCreate:
    def test_from_files_queues_an_inspection(self, server: Server, tenant: Tenant, noun: str) -> None:
        body = source(("b/weights.safetensors", tenant.upload(b"weights")), (None, tenant.upload(b"{}", filename="config.json")))
        created = expect(tenant.post(f"/v1/{noun}", json=body), 201)
        assert created["status"] == "inspecting"
        assert [file["path"] for file in created["files"]] == ["b/weights.safetensors", "config.json"]
        assert created["bytes"] == 9
        with server.runtime.read() as session:
            step = session.scalars(select(StepRow).where(StepRow.subject_id == created["id"])).one()
            assert (step.kind, step.status, step.queue) == (f"inspect_{created['object']}", "ready", "io")
            bells = session.scalars(select(OutboxRow).where(OutboxRow.topic == "run_step")).all()
            assert step.id in [bell.payload["id"] for bell in bells]
        assert expect(tenant.get(f"/v1/{noun}/{created['id']}"), 200) == created

    def test_tells_what_keeps_the_inspection_from_ending(self, server: Server, tenant: Tenant, noun: str) -> None:
        created = tenant.register(noun, tenant.upload(b"weights"))
        world = World(server.runtime.write, tenant.tenant_id)
        with world.sessions() as session:
            step_id = session.scalars(select(StepRow.id).where(StepRow.subject_id == created["id"])).one()
        lease = world.claimed(step_id)
        with world.sessions.begin() as session:
            leases.postpone_step(session, lease, problem("outage", "Something could not be reached", "The store was away."))
        told = {"severity": "warning", "code": "retrying", "detail": "The store was away. It is tried again.", "pointer": None}
        assert expect(tenant.get(f"/v1/{noun}/{created['id']}"), 200)["findings"] == [told]
        assert expect(tenant.get(f"/v1/{noun}"), 200)["data"][0]["findings"] == [told]
        world.pass_time(not_before=timedelta(minutes=1))
        lease = world.claimed(step_id)
        with world.sessions.begin() as session:
            leases.hand_back_step(session, lease)
        assert expect(tenant.get(f"/v1/{noun}"), 200)["data"][0]["findings"] == []
        world.finish_inspection(step_id, accepted=True)
        assert expect(tenant.get(f"/v1/{noun}/{created['id']}"), 200)["findings"] == []

    def test_marks_a_zip_for_unpacking(self, server: Server, tenant: Tenant, noun: str) -> None:
        created = tenant.register(noun, tenant.upload(b"PK"), paths=("all.ZIP",))
        with server.runtime.read() as session:
            model, dataset = session.get(ModelRow, created["id"]), session.get(DatasetRow, created["id"])
        row = model or dataset
        assert row is not None
        assert [file["archive"] for file in row.files] == [True]

    def test_takes_one_upload_for_two_places(self, tenant: Tenant, noun: str) -> None:
        upload_id = tenant.upload(b"same")
        created = expect(tenant.post(f"/v1/{noun}", json=source(("a", upload_id), ("b", upload_id))), 201)
        assert len(created["files"]) == 2

    def test_refuses_unknown_and_foreign_uploads_alike(self, tenant: Tenant, stranger: Tenant, noun: str) -> None:
        foreign = expect_problem(tenant.post(f"/v1/{noun}", json=source(("a", stranger.upload(b"x")))), 404, "/source/files/0/upload_id")
        unknown = expect_problem(tenant.post(f"/v1/{noun}", json=source(("a", "upl_nobody"))), 404, "/source/files/0/upload_id")
        assert foreign["title"] == unknown["title"]

    def test_refuses_an_upload_that_is_not_complete(self, tenant: Tenant, noun: str) -> None:
        upload = tenant.announce(b"data")
        assert "complete" in expect_problem(tenant.post(f"/v1/{noun}", json=source(("a", upload["id"]))), 409)["detail"]
        assert expect(tenant.get(f"/v1/{noun}"), 200)["data"] == []

    @pytest.mark.parametrize("path", ["../a", "/a", "a/../b", "a\\b", "a\0b", "", "a//b", "\ud800"])
    def test_refuses_a_path_out_of_the_folder(self, tenant: Tenant, noun: str, path: str) -> None:
        content = json.dumps(source((path, "upl_1")))
        expect_problem(tenant.post(f"/v1/{noun}", content=content, headers={"Content-Type": "application/json"}), 422)

    @pytest.mark.parametrize(("one", "other"), [("a", "a"), ("a", "a/b"), ("a/b", "a")])
    def test_refuses_paths_that_clash(self, tenant: Tenant, noun: str, one: str, other: str) -> None:
        body = source((one, tenant.upload(b"1")), (other, tenant.upload(b"2")))
        expect_problem(tenant.post(f"/v1/{noun}", json=body), 422, "/source/files/1/path")

    @pytest.mark.parametrize(
        "elsewhere", [{"type": "s3", "uri": "s3://bucket/model/"}, {"type": "huggingface", "repo_id": "someone/model", "revision": "main"}]
    )
    def test_by_reference_leaves_fetching_to_a_worker(self, server: Server, tenant: Tenant, noun: str, elsewhere: dict[str, str]) -> None:
        created = expect(tenant.post(f"/v1/{noun}", json={"name": "x", "source": elsewhere}), 201)
        assert (created["status"], created["source"], created["files"]) == ("inspecting", elsewhere, [])
        with server.runtime.read() as session:
            step = session.scalars(select(StepRow).where(StepRow.subject_id == created["id"])).one()
        assert (step.kind, step.status, step.queue) == (f"inspect_{created['object']}", "ready", "io")

    def test_points_at_what_is_wrong(self, tenant: Tenant, noun: str) -> None:
        for body, pointer in [
            ({"source": {"type": "upload", "files": [{"upload_id": "x"}]}}, "/name"),
            ({"name": "x"}, "/source"),
            ({"name": "x", "source": {"type": "ftp"}}, "/source"),
            ({"name": "x", "source": {"type": "upload", "files": []}}, "/source/files"),
            ({"name": "x", "source": {"type": "upload", "files": [{"path": "a"}]}}, "/source/files/0/upload_id"),
            ({"name": "x", "source": {"type": "s3", "uri": "https://x"}}, "/source/uri"),
        ]:
            expect_problem(tenant.post(f"/v1/{noun}", json=body), 422, pointer)


class TestList:
    def test_pages_from_the_newest(self, tenant: Tenant, noun: str) -> None:
        upload_id = tenant.upload(b"x")
        created = [tenant.register(noun, upload_id)["id"] for _ in range(5)]
        first = expect(tenant.get(f"/v1/{noun}", params={"limit": 2}), 200)
        assert (first["object"], first["has_more"], first["last_id"]) == ("list", True, created[3])
        seen, page = first["data"], first
        while page["has_more"]:
            page = expect(tenant.get(f"/v1/{noun}", params={"limit": 2, "after": page["last_id"]}), 200)
            seen += page["data"]
        assert [row["id"] for row in seen] == created[::-1]

    def test_filters_by_status(self, server: Server, tenant: Tenant, noun: str) -> None:
        one, _other = (tenant.register(noun, tenant.upload(b"x"))["id"] for _ in range(2))
        finish_inspection(server, one, status="ready")
        assert [row["id"] for row in expect(tenant.get(f"/v1/{noun}", params={"status": "ready"}), 200)["data"]] == [one]

    def test_shows_nothing_of_others(self, tenant: Tenant, stranger: Tenant, noun: str) -> None:
        theirs = stranger.register(noun, stranger.upload(b"x"))["id"]
        assert expect(tenant.get(f"/v1/{noun}"), 200)["data"] == []
        assert expect(tenant.get(f"/v1/{noun}", params={"after": theirs}), 200)["data"] == []

    @pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "many"}, {"after": "../x"}, {"status": "lost"}])
    def test_refuses_a_wrong_query(self, tenant: Tenant, noun: str, query: dict[str, str]) -> None:
        expect_problem(tenant.get(f"/v1/{noun}", params=query), 422, f"query/{next(iter(query))}")


class TestInspected:
    def test_shows_what_was_found_in_a_model(self, server: Server, tenant: Tenant) -> None:
        model_id = tenant.register("models", tenant.upload(b"x"))["id"]
        finding = {"severity": "error", "code": "pickle", "detail": "pickled weights", "pointer": "model.bin"}
        found = {"family": "llada_v", "parameters": 1_500_000, "tensors": 99, "dtypes": {"F32": 1_500_000}}
        finish_inspection(server, model_id, status="rejected", inspection=found, findings=[finding])
        model = expect(tenant.get(f"/v1/models/{model_id}"), 200)
        assert (model["status"], model["family"], model["parameters"], model["tensors"]) == ("rejected", "llada_v", 1_500_000, 99)
        assert model["findings"] == [finding]

    def test_shows_the_pictures_of_a_dataset(self, server: Server, tenant: Tenant, stranger: Tenant) -> None:
        dataset_id = tenant.register("datasets", tenant.upload(b"x"))["id"]
        server.runtime.store.put_bytes(f"inspections/{dataset_id}/0.png", b"picture")
        thumbnail = {"path": "0.png", "key": f"inspections/{dataset_id}/0.png", "sha256": "00", "bytes": 7}
        finish_inspection(server, dataset_id, status="ready", inspection={"thumbnails": [thumbnail]})
        answer = tenant.get(f"/v1/datasets/{dataset_id}/thumbnails/0")
        assert (answer.content, answer.headers["content-type"]) == (b"picture", "image/png")
        expect_problem(tenant.get(f"/v1/datasets/{dataset_id}/thumbnails/1"), 404)
        expect_problem(stranger.get(f"/v1/datasets/{dataset_id}/thumbnails/0"), 404)


class TestDelete:
    def test_removes_the_bytes(self, tenant: Tenant, noun: str) -> None:
        created = tenant.register(noun, tenant.upload(b"x"))
        assert tenant.delete(f"/v1/{noun}/{created['id']}").status_code == 204
        assert tenant.stored() == set()
        expect_problem(tenant.get(f"/v1/{noun}/{created['id']}"), 404)

    def test_leaves_bytes_that_another_uses(self, tenant: Tenant, noun: str) -> None:
        upload_id = tenant.upload(b"x")
        one, other = tenant.register(noun, upload_id), tenant.register("models", upload_id)
        tenant.delete(f"/v1/{noun}/{one['id']}")
        assert len(tenant.stored()) == 1
        tenant.delete(f"/v1/models/{other['id']}")
        assert tenant.stored() == set()
        assert "gone" in expect_problem(tenant.post("/v1/models", json=source(("a", upload_id))), 409)["detail"]

    def test_stops_the_inspection(self, server: Server, tenant: Tenant, noun: str) -> None:
        created = tenant.register(noun, tenant.upload(b"x"))
        tenant.delete(f"/v1/{noun}/{created['id']}")
        with server.runtime.read() as session:
            assert session.scalars(select(StepRow).where(StepRow.subject_id == created["id"])).all() == []

    def test_is_refused_while_a_job_needs_it(self, tenant: Tenant, noun: str) -> None:
        model = tenant.register("models", tenant.upload(b"m"))["id"]
        dataset = tenant.register("datasets", tenant.upload(b"d"))["id"]
        job = expect(tenant.post("/v1/jobs", json={"kind": "defend", "model_id": model, "dataset_id": dataset}), 201)
        needed = model if noun == "models" else dataset
        assert job["id"] in expect_problem(tenant.delete(f"/v1/{noun}/{needed}"), 409)["detail"]
        expect(tenant.post(f"/v1/jobs/{job['id']}/cancel"), 200)
        assert tenant.delete(f"/v1/{noun}/{needed}").status_code == 204
