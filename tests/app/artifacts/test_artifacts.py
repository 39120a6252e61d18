"""What jobs leave behind can be looked at, fetched whole or in part, and made a model of."""

from __future__ import annotations

import base64
import hashlib

import httpx
import pytest

from tests.worlds.api import Tenant, expect, expect_problem
from tests.worlds.artifacts import CONTENT, finished_job, leave


def fetch(tenant: Tenant, artifact_id: str, **headers: str) -> httpx.Response:
    return tenant.get(f"/v1/artifacts/{artifact_id}/content", headers=headers, follow_redirects=True)


def is_embedded(tenant: Tenant) -> bool:
    return tenant.server.runtime.settings.storage_url.startswith("file:")


class TestArtifacts:
    def test_are_listed_with_their_job(self, tenant: Tenant, stranger: Tenant) -> None:
        job_id = finished_job(tenant)
        ids = [leave(tenant, job_id, name, b"{}") for name in ("report.json", "report.html")]
        listed = expect(tenant.get(f"/v1/jobs/{job_id}/artifacts"), 200)
        assert [artifact["id"] for artifact in listed["data"]] == ids[::-1]
        expect_problem(stranger.get(f"/v1/jobs/{job_id}/artifacts"), 404)

    def test_logs_are_listed_when_asked_for(self, tenant: Tenant) -> None:
        job_id = finished_job(tenant)
        report, log = leave(tenant, job_id, "report.json", kind="report"), leave(tenant, job_id, "logs/scan-0.attempt-1.jsonl", kind="log")
        for query, listed in (("", [report]), ("?kind=log", [log]), ("?kind=report", [report]), ("?kind=picture", [])):
            found = expect(tenant.get(f"/v1/jobs/{job_id}/artifacts{query}"), 200)
            assert [artifact["id"] for artifact in found["data"]] == listed
        assert "filename*=UTF-8''scan-0.attempt-1.jsonl" in fetch(tenant, log).headers["Content-Disposition"]

    def test_tell_size_and_digest(self, tenant: Tenant, stranger: Tenant) -> None:
        artifact_id = leave(tenant, finished_job(tenant), "report.json")
        artifact = expect(tenant.get(f"/v1/artifacts/{artifact_id}"), 200)
        assert (artifact["bytes"], artifact["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        expect_problem(stranger.get(f"/v1/artifacts/{artifact_id}"), 404)


class TestContent:
    def test_arrives_whole(self, tenant: Tenant, stranger: Tenant) -> None:
        artifact_id = leave(tenant, finished_job(tenant), "model/mödel 1.safetensors")
        answer = fetch(tenant, artifact_id)
        assert answer.content == CONTENT
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''m%C3%B6del%201.safetensors"
        expect_problem(fetch(stranger, artifact_id), 404)

    def test_tells_the_digest_of_the_whole_file_whole_or_in_part(self, tenant: Tenant) -> None:
        if not is_embedded(tenant):
            pytest.skip("the object store answers")
        artifact_id = leave(tenant, finished_job(tenant), "x")
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}:"
        assert fetch(tenant, artifact_id).headers["repr-digest"] == digest
        part = fetch(tenant, artifact_id, Range="bytes=-1000")
        assert (part.status_code, part.content, part.headers["repr-digest"]) == (206, CONTENT[-1000:], digest)

    def test_arrives_in_part(self, tenant: Tenant) -> None:
        answer = fetch(tenant, leave(tenant, finished_job(tenant), "x"), Range="bytes=1000-1999")
        assert (answer.status_code, answer.content) == (206, CONTENT[1000:2000])
        assert answer.headers["content-range"] == f"bytes 1000-1999/{len(CONTENT)}"
        assert answer.headers["content-length"] == "1000"

    def test_has_nothing_behind_its_end(self, tenant: Tenant) -> None:
        answer = fetch(tenant, leave(tenant, finished_job(tenant), "x"), Range=f"bytes={len(CONTENT)}-")
        assert answer.status_code == 416
        if is_embedded(tenant):
            expect_problem(answer, 416)
            assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"

    def test_is_redirected_to_a_signed_link_where_storage_has_addresses(self, tenant: Tenant) -> None:
        if is_embedded(tenant):
            pytest.skip("a folder has no addresses")
        answer = tenant.get(f"/v1/artifacts/{leave(tenant, finished_job(tenant), 'x')}/content")
        assert answer.status_code == 302
        link = answer.headers["location"]
        assert httpx.get(link).content == CONTENT
        assert httpx.get(link.replace("Signature=", "Signature=0")).status_code == 403

    def test_is_not_sent_again_unchanged(self, tenant: Tenant) -> None:
        if not is_embedded(tenant):
            pytest.skip("the object store answers")
        artifact_id = leave(tenant, finished_job(tenant), "x")
        etag = fetch(tenant, artifact_id).headers["etag"]
        assert etag == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
        assert fetch(tenant, artifact_id, **{"If-None-Match": etag}).status_code == 304
        assert fetch(tenant, artifact_id, **{"If-Range": etag, "Range": "bytes=0-0"}).status_code == 206
        assert fetch(tenant, artifact_id, **{"If-Range": '"older"', "Range": "bytes=0-0"}).status_code == 200

    def test_runs_no_script_in_a_browser(self, tenant: Tenant) -> None:
        if not is_embedded(tenant):
            pytest.skip("the object store answers")
        headers = fetch(tenant, leave(tenant, finished_job(tenant), "report.html", b"<script>")).headers
        assert headers["content-security-policy"] == "sandbox"
        assert headers["x-content-type-options"] == "nosniff"


class TestAsSource:
    def test_a_folder_is_taken_whole(self, tenant: Tenant) -> None:
        job_id = finished_job(tenant)
        weights = leave(tenant, job_id, "model/model.safetensors", b"weights")
        leave(tenant, job_id, "model/config.json", b"{}")
        leave(tenant, job_id, "report.json", b"{}")
        body = {"name": "purified", "source": {"type": "artifact", "artifact_id": weights}}
        model = expect(tenant.post("/v1/models", json=body), 201)
        assert [file["path"] for file in model["files"]] == ["config.json", "model.safetensors"]

    def test_outlives_its_job(self, tenant: Tenant) -> None:
        job_id = finished_job(tenant)
        archive = leave(tenant, job_id, "dataset.zip", b"PK")
        body = {"name": "purified", "source": {"type": "artifact", "artifact_id": archive}}
        dataset = expect(tenant.post("/v1/datasets", json=body), 201)
        assert tenant.delete(f"/v1/jobs/{job_id}").status_code == 204
        store = tenant.server.runtime.store
        assert len(list(store.keys(f"jobs/{job_id}/"))) == 1
        tenant.delete(f"/v1/datasets/{dataset['id']}")
        assert list(store.keys(f"jobs/{job_id}/")) == []

    def test_outlives_its_data_set(self, tenant: Tenant) -> None:
        archive = leave(tenant, finished_job(tenant), "dataset.zip", b"PK")
        body = {"name": "purified", "source": {"type": "artifact", "artifact_id": archive}}
        tenant.delete(f"/v1/datasets/{expect(tenant.post('/v1/datasets', json=body), 201)['id']}")
        assert fetch(tenant, archive).content == b"PK"

    def test_refuses_a_foreign_one(self, tenant: Tenant, stranger: Tenant) -> None:
        body = {"name": "stolen", "source": {"type": "artifact", "artifact_id": leave(stranger, finished_job(stranger), "x.zip")}}
        expect_problem(tenant.post("/v1/models", json=body), 404, "/source/artifact_id")
