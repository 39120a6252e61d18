"""Every change that the API offers is in the audit log, once."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from sqlalchemy import select

from app.audit.tables import AuditRow
from tests.contract.test_tenancy import METHODS, one_of_everything
from tests.worlds.api import Server, Tenant, expect

# Bytes on their way: what counts is that the upload is completed, and in production they go straight to storage.
UNNOTED = {("put", "/v1/uploads/{upload_id}/parts/{number}")}


def changes(tenant: Tenant) -> dict[tuple[str, str], Callable[[], httpx.Response]]:
    """For each address that changes something, a request that succeeds; what deletes comes last."""
    ids = one_of_everything(tenant)
    webhook, delivery = f"/v1/webhooks/{ids['webhook_id']}", f"/v1/webhooks/{ids['webhook_id']}/deliveries/{ids['delivery_id']}"
    complete = tenant.announce(b"data")
    tenant.send_parts(complete, b"data")
    source = {"type": "artifact", "artifact_id": ids["artifact_id"]}
    inputs = {"model_id": ids["model_id"], "dataset_id": ids["dataset_id"]}
    return {
        ("post", "/v1/uploads"): lambda: tenant.post("/v1/uploads", json={"filename": "a", "bytes": 1}),
        ("post", "/v1/uploads/{upload_id}/complete"): lambda: tenant.post(f"/v1/uploads/{complete['id']}/complete"),
        ("post", "/v1/models"): lambda: tenant.post("/v1/models", json={"name": "x", "source": source}),
        ("post", "/v1/datasets"): lambda: tenant.post("/v1/datasets", json={"name": "x", "source": source}),
        ("post", "/v1/jobs"): lambda: tenant.post("/v1/jobs", json={"kind": "scan", **inputs}),
        ("post", "/v1/webhooks"): lambda: tenant.post("/v1/webhooks", json={"url": "https://example.com/other"}),
        ("patch", "/v1/webhooks/{webhook_id}"): lambda: tenant.patch(webhook, json={"description": "new"}),
        ("post", "/v1/webhooks/{webhook_id}/rotate-secret"): lambda: tenant.post(f"{webhook}/rotate-secret"),
        ("post", "/v1/webhooks/{webhook_id}/test"): lambda: tenant.post(f"{webhook}/test"),
        ("post", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"): lambda: tenant.post(f"{delivery}/redeliver"),
        ("post", "/v1/credentials"): lambda: tenant.post("/v1/credentials", json={"type": "huggingface", "token": "hf_other"}),
        ("post", "/v1/keys"): lambda: tenant.post("/v1/keys", json={"name": "x"}),
        ("post", "/v1/jobs/{job_id}/cancel"): lambda: tenant.post(f"/v1/jobs/{ids['job_id']}/cancel"),
        ("delete", "/v1/jobs/{job_id}"): lambda: tenant.delete(f"/v1/jobs/{ids['job_id']}"),
        ("delete", "/v1/uploads/{upload_id}"): lambda: tenant.delete(f"/v1/uploads/{ids['upload_id']}"),
        ("delete", "/v1/models/{model_id}"): lambda: tenant.delete(f"/v1/models/{_unused(tenant, 'models')}"),
        ("delete", "/v1/datasets/{dataset_id}"): lambda: tenant.delete(f"/v1/datasets/{_unused(tenant, 'datasets')}"),
        ("delete", "/v1/webhooks/{webhook_id}"): lambda: tenant.delete(webhook),
        ("delete", "/v1/credentials/{credential_id}"): lambda: tenant.delete(f"/v1/credentials/{ids['credential_id']}"),
        ("delete", "/v1/keys/{key_id}"): lambda: tenant.delete(f"/v1/keys/{ids['key_id']}"),
    }


def _unused(tenant: Tenant, noun: str) -> str:
    """The newest of them, which no job reads."""
    newest: str = expect(tenant.get(f"/v1/{noun}?limit=1"), 200)["data"][0]["id"]
    return newest


def entries(tenant: Tenant) -> list[AuditRow]:
    with tenant.server.runtime.read() as session:
        return list(session.scalars(select(AuditRow).where(AuditRow.tenant_id == tenant.tenant_id).order_by(AuditRow.id)))


def test_every_change_leaves_one_entry(server: Server, tenant: Tenant) -> None:
    offered = {
        (method, path) for path, item in server.app.openapi()["paths"].items() for method in METHODS if method in item and method != "get"
    }
    wanted = changes(tenant)
    assert set(wanted) == offered - UNNOTED
    own = expect(tenant.get("/v1/keys"), 200)["data"][-1]["id"]
    for route, change in wanted.items():
        before = entries(tenant)
        answer = change()
        assert answer.is_success, (route, answer.text)
        after = entries(tenant)
        assert len(after) == len(before) + 1, (route, [entry.action for entry in after[len(before) :]])
        noted = after[-1]
        assert (noted.key_id, noted.address, noted.request_id) == (own, "127.0.0.1", answer.headers["x-request-id"]), route
