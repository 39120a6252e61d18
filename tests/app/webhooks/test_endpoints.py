"""Endpoints that want to hear: made, changed, switched off, tested, and their deliveries looked through."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from standardwebhooks import Webhook

from app.jobs.tables import OutboxRow
from app.webhooks.secrets import signing_secrets
from app.webhooks.tables import DeliveryRow, WebhookRow
from tests.worlds.api import Tenant, expect, expect_problem

URL = "https://ci.example.com/hooks/lustral"


def create(tenant: Tenant, **fields: Any) -> dict[str, Any]:
    return expect(tenant.post("/v1/webhooks", json={"url": URL, **fields}), 201)


def secrets_in_use(tenant: Tenant, webhook_id: str) -> list[str]:
    runtime = tenant.server.runtime
    with runtime.read() as session:
        webhook = session.get_one(WebhookRow, webhook_id)
        return signing_secrets(runtime.signer, webhook, now=webhook.updated_at)


class TestCreateWebhook:
    def test_shows_the_secret_once(self, tenant: Tenant) -> None:
        webhook = create(tenant, description="CI")
        Webhook(webhook["secret"])  # the independent library takes it
        assert webhook["secret"].startswith("whsec_")
        assert webhook["events"] == ["*"]
        assert secrets_in_use(tenant, webhook["id"]) == [webhook["secret"]]
        assert "whsec_" not in tenant.get(f"/v1/webhooks/{webhook['id']}").text + tenant.get("/v1/webhooks").text

    def test_gives_every_webhook_a_secret_of_its_own(self, tenant: Tenant) -> None:
        assert create(tenant)["secret"] != create(tenant)["secret"]

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.com",
            "example.com",
            "https://",
            "https://user:password@example.com",
            "https://exa mple.com",
            "https://169.254.169.254/latest/meta-data",
            "https://[fe80::1]/",
            "https://0.0.0.0/",
            "https://example.com:99999/",
            "https://xn--/",
            "https://xn--a/",
            "https://xn--zz--.com/",
        ],
    )
    def test_refuses_what_is_no_address(self, tenant: Tenant, url: str) -> None:
        expect_problem(tenant.post("/v1/webhooks", json={"url": url}), 422, "/url")

    @pytest.mark.parametrize("url", ["https://127.0.0.1", "http://localhost:8000", "https://[::1]", "https://2130706433"])
    def test_lets_only_the_embedded_profile_call_its_own_machine(self, tenant: Tenant, url: str) -> None:
        answer = tenant.post("/v1/webhooks", json={"url": url})
        if tenant.server.runtime.settings.webhook_reach == "loopback":
            expect(answer, 201)
        else:
            expect_problem(answer, 422, "/url")

    @pytest.mark.parametrize("url", ["http://example.com", "https://10.1.2.3", "https://[::ffff:10.0.0.1]", "https://host.internal"])
    def test_lets_neither_profile_call_its_neighbours(self, tenant: Tenant, url: str) -> None:
        expect_problem(tenant.post("/v1/webhooks", json={"url": url}), 422, "/url")

    def test_refuses_types_that_do_not_exist(self, tenant: Tenant) -> None:
        expect_problem(tenant.post("/v1/webhooks", json={"url": URL, "events": ["job.exploded"]}), 422, "/events/0")
        expect_problem(tenant.post("/v1/webhooks", json={"url": URL, "events": []}), 422, "/events")


class TestUpdateWebhook:
    def test_changes_what_is_named(self, tenant: Tenant) -> None:
        webhook = create(tenant, description="old", events=["job.failed"])
        changed = expect(tenant.patch(f"/v1/webhooks/{webhook['id']}", json={"description": "new"}), 200)
        assert (changed["description"], changed["events"], changed["url"]) == ("new", ["job.failed"], URL)

    def test_checks_the_new_address(self, tenant: Tenant) -> None:
        expect_problem(tenant.patch(f"/v1/webhooks/{create(tenant)['id']}", json={"url": "https://169.254.169.254"}), 422, "/url")

    def test_switches_it_off_and_on(self, tenant: Tenant) -> None:
        path = f"/v1/webhooks/{create(tenant)['id']}"
        assert expect(tenant.patch(path, json={"enabled": False}), 200)["disabled_reason"] == "switched off by its owner"
        expect_problem(tenant.post(f"{path}/test"), 409)
        webhook_id = path.rpartition("/")[2]
        with tenant.server.runtime.write.begin() as session:
            row = session.get_one(WebhookRow, webhook_id)
            row.failures, row.failing_since = 30, row.created_at
        assert expect(tenant.get(path), 200)["failing_since"] is not None
        enabled = expect(tenant.patch(path, json={"enabled": True}), 200)
        assert (enabled["disabled_reason"], enabled["failing_since"]) == (None, None)
        expect(tenant.post(f"{path}/test"), 202)


class TestRotateSecret:
    def test_keeps_the_old_secret_good_for_a_day(self, tenant: Tenant) -> None:
        webhook = create(tenant)
        rotated = expect(tenant.post(f"/v1/webhooks/{webhook['id']}/rotate-secret"), 200)
        assert rotated["secret"] != webhook["secret"]
        assert rotated["previous_secret_expires_at"] is not None
        assert secrets_in_use(tenant, webhook["id"]) == [rotated["secret"], webhook["secret"]]

    def test_twice_ends_the_first_secret_at_once(self, tenant: Tenant) -> None:
        webhook = create(tenant)
        path = f"/v1/webhooks/{webhook['id']}/rotate-secret"
        second, third = (expect(tenant.post(path), 200)["secret"] for _ in range(2))
        assert secrets_in_use(tenant, webhook["id"]) == [third, second]
        described = tenant.get("/openapi.json").json()["paths"]["/v1/webhooks/{webhook_id}/rotate-secret"]["post"]["description"]
        assert "rotating twice ends" in described


class TestDeliveries:
    def test_shows_what_was_owed(self, tenant: Tenant) -> None:
        path = f"/v1/webhooks/{create(tenant, events=['job.failed'])['id']}"
        test = expect(tenant.post(f"{path}/test"), 202)
        assert (test["type"], test["status"], test["attempts"]) == ("webhook.test", "pending", [])
        assert test["payload"]["type"] == "webhook.test"
        assert expect(tenant.get(f"{path}/deliveries"), 200)["data"] == [test]
        assert expect(tenant.get(f"{path}/deliveries/{test['id']}"), 200) == test
        assert expect(tenant.get(f"{path}/deliveries", params={"status": "failed"}), 200)["data"] == []

    def test_can_be_sent_again(self, tenant: Tenant) -> None:
        path = f"/v1/webhooks/{create(tenant)['id']}"
        delivery_id = expect(tenant.post(f"{path}/test"), 202)["id"]
        with tenant.server.runtime.write.begin() as session:
            session.get_one(DeliveryRow, delivery_id).status = "failed"
        assert expect(tenant.post(f"{path}/deliveries/{delivery_id}/redeliver"), 202)["status"] == "pending"
        with tenant.server.runtime.read() as session:
            bells = session.scalars(select(OutboxRow).where(OutboxRow.topic == "deliver_webhook")).all()
        assert [bell.payload["id"] for bell in bells].count(delivery_id) == 2

    def test_belong_to_their_webhook(self, tenant: Tenant) -> None:
        one, other = create(tenant)["id"], create(tenant)["id"]
        delivery_id = expect(tenant.post(f"/v1/webhooks/{one}/test"), 202)["id"]
        expect_problem(tenant.get(f"/v1/webhooks/{other}/deliveries/{delivery_id}"), 404)

    def test_go_with_their_webhook(self, tenant: Tenant) -> None:
        webhook_id = create(tenant)["id"]
        delivery_id = expect(tenant.post(f"/v1/webhooks/{webhook_id}/test"), 202)["id"]
        assert tenant.delete(f"/v1/webhooks/{webhook_id}").status_code == 204
        with tenant.server.runtime.read() as session:
            assert session.get(DeliveryRow, delivery_id) is None
