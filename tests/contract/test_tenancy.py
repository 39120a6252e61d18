"""No address shows, changes or deletes what belongs to another tenant: each answers as if it did not exist."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.artifacts.tables import ArtifactRow
from app.ids import new_id
from tests.worlds.api import Server, Tenant, expect, expect_problem

ROOT = Path(__file__).parents[2]
METHODS = ("get", "put", "post", "patch", "delete")
# Bodies that are right in themselves, so that only the id can be what is wrong.
BODIES: dict[tuple[str, str], dict[str, Any]] = {("patch", "/v1/webhooks/{webhook_id}"): {"description": "mine now"}}
# Its link names the upload and is signed; no key is asked for.
BY_LINK = {("put", "/v1/uploads/{upload_id}/parts/{number}")}


def operations_with_ids(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item and "_id}" in path and (method, path) not in BY_LINK:
                yield method, path


def one_of_everything(tenant: Tenant) -> dict[str, str]:
    """Ids of a tenant's own things, by the names that paths give them."""
    model = tenant.register("models", tenant.upload(b"model"))["id"]
    dataset = tenant.register("datasets", tenant.upload(b"data set"))["id"]
    job = expect(tenant.post("/v1/jobs", json={"kind": "defend", "model_id": model, "dataset_id": dataset}), 201)["id"]
    webhook = expect(tenant.post("/v1/webhooks", json={"url": "https://example.com/hook"}), 201)["id"]
    with tenant.server.runtime.write.begin() as session:
        artifact = ArtifactRow(
            id=new_id("art"),
            tenant_id=tenant.tenant_id,
            job_id=job,
            name="report.json",
            kind="report",
            key=f"jobs/{job}/report.json",
            sha256=hashlib.sha256(b"{}").hexdigest(),
            bytes=2,
            media_type="application/json",
            created_at=datetime.now(UTC),
        )
        session.add(artifact)
    tenant.server.runtime.store.put_bytes(artifact.key, b"{}")
    return {
        "upload_id": tenant.announce(b"data")["id"],
        "model_id": model,
        "dataset_id": dataset,
        "job_id": job,
        "artifact_id": artifact.id,
        "webhook_id": webhook,
        "delivery_id": expect(tenant.post(f"/v1/webhooks/{webhook}/test"), 202)["id"],
        "key_id": expect(tenant.post("/v1/keys", json={"name": "CI"}), 201)["id"],
        "credential_id": expect(tenant.post("/v1/credentials", json={"type": "huggingface", "token": "hf_mine"}), 201)["id"],
        "number": "0",
    }


def seen_by(tenant: Tenant, ids: dict[str, str]) -> dict[str, Any]:
    """Everything the owner can read, to be compared before and after."""
    document = tenant.get("/openapi.json").json()
    paths = [
        path for method, path in operations_with_ids(document) if method == "get" and "thumbnails" not in path and "report" not in path
    ]
    answers = {path: tenant.get(path.format(**ids), follow_redirects=True) for path in paths}
    return {path: (answer.status_code, _steady(path, answer.text)) for path, answer in answers.items()}


def _steady(path: str, text: str) -> str:
    # Links are signed anew each time.
    return "" if path == "/v1/uploads/{upload_id}" else text


class TestTenancy:
    def test_holds_at_every_address(self, server: Server, tenant: Tenant, stranger: Tenant) -> None:
        ids = one_of_everything(tenant)
        before = seen_by(tenant, ids)
        assert {status for status, _ in before.values()} == {200}
        tried = 0
        for method, path in operations_with_ids(server.app.openapi()):
            answer = stranger.request(method, path.format(**ids), json=BODIES.get((method, path)))
            expect_problem(answer, 404)
            tried += 1
        assert tried >= 25
        assert seen_by(tenant, ids) == before

    def test_tells_foreign_ids_from_unknown_ones_nowhere(self, server: Server, tenant: Tenant, stranger: Tenant) -> None:
        ids = one_of_everything(tenant)
        for method, path in operations_with_ids(server.app.openapi()):
            body = BODIES.get((method, path))
            foreign = stranger.request(method, path.format(**ids), json=body).json()
            unknown = {name: id[:-4] + "beef" if name != "number" else id for name, id in ids.items()}
            nobody = stranger.request(method, path.format(**unknown), json=body).json()
            assert foreign["detail"].replace(*_last(ids, foreign)) == nobody["detail"].replace(*_last(unknown, nobody)), (method, path)

    def test_shows_nothing_in_lists(self, server: Server, tenant: Tenant, stranger: Tenant) -> None:
        ids = one_of_everything(tenant)
        lists = [
            path
            for path, item in server.app.openapi()["paths"].items()
            if "get" in item and path.count("/") == 2 and path.startswith("/v1/")
        ]
        assert set(lists) >= {"/v1/models", "/v1/datasets", "/v1/jobs", "/v1/webhooks", "/v1/keys", "/v1/credentials"}
        for path in lists:
            shown = stranger.get(path).text
            assert not any(id in shown for name, id in ids.items() if name != "number"), path

    @pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/v1/datasets"])
    def test_lets_nobody_build_on_foreign_things(self, tenant: Tenant, stranger: Tenant, path: str) -> None:
        ids = one_of_everything(tenant)
        bodies = {
            "/v1/jobs": {"kind": "defend", "model_id": ids["model_id"], "dataset_id": ids["dataset_id"]},
            "/v1/models": {"name": "x", "source": {"type": "artifact", "artifact_id": ids["artifact_id"]}},
            "/v1/datasets": {"name": "x", "source": {"type": "artifact", "artifact_id": ids["artifact_id"]}},
        }
        expect_problem(stranger.post(path, json=bodies[path]), 404)
        assert expect(stranger.get(path), 200)["data"] == []


def test_one_place_scopes_every_query() -> None:
    sources = [path for room in ("app", "workers") for path in (ROOT / room).rglob("*.py")]
    assert len(sources) > 100
    by_hand = re.compile(r"tenant_id\s*(==|!=|\.in_\()|filter_by\([^)]*tenant_id")
    assert [str(path.relative_to(ROOT)) for path in sources if by_hand.search(path.read_text())] == ["app/repository.py"]


def _last(ids: dict[str, str], problem: dict[str, Any]) -> tuple[str, str]:
    """The id that the problem names, to be blanked out before two are compared."""
    named = [id for name, id in ids.items() if name != "number" and id in problem["detail"]]
    return (named[0], "…") if named else ("\0", "")
