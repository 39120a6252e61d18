"""The published document describes the API as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.errors import problem_kinds
from tests.worlds.api import Server

PROBLEM = {"$ref": "#/components/schemas/ProblemDocument"}


@pytest.fixture
def document(server: Server) -> dict[str, Any]:
    return server.app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method} {path}", operation


class TestOpenAPI:
    def test_names_every_address_of_the_contract(self, document: dict[str, Any]) -> None:
        assert set(document["paths"]) >= {
            "/v1/uploads", "/v1/uploads/{upload_id}", "/v1/uploads/{upload_id}/complete",
            "/v1/models", "/v1/models/{model_id}", "/v1/datasets", "/v1/datasets/{dataset_id}",
            "/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/cancel", "/v1/jobs/{job_id}/events",
            "/v1/jobs/{job_id}/report", "/v1/jobs/{job_id}/artifacts",
            "/v1/signing-key", "/v1/artifacts/{artifact_id}", "/v1/artifacts/{artifact_id}/content",
            "/v1/webhooks", "/v1/webhooks/{webhook_id}", "/v1/webhooks/{webhook_id}/deliveries",
            "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", "/v1/webhooks/{webhook_id}/rotate-secret",
            "/v1/webhooks/{webhook_id}/test", "/v1/keys", "/v1/keys/{key_id}",
            "/v1/credentials", "/v1/credentials/{credential_id}", "/v1/jobs/{job_id}/steps", "/v1/usage", "/v1/audit",
            "/healthz", "/readyz", "/metrics",
        }  # fmt: skip

    def test_explains_every_operation(self, document: dict[str, Any]) -> None:
        unexplained = [name for name, operation in operations(document) if not operation.get("description") or not operation.get("tags")]
        assert unexplained == []

    def test_gives_every_operation_a_name_of_its_own(self, document: dict[str, Any]) -> None:
        names = [operation["operationId"] for _, operation in operations(document)]
        assert len(set(names)) == len(names)

    def test_describes_errors_as_problems(self, document: dict[str, Any]) -> None:
        kinds = {f"#/components/responses/{kind.__name__}": kind for kind in problem_kinds()}
        for name, operation in operations(document):
            for status, response in operation["responses"].items():
                if status >= "400" and not (name == "get /readyz" and status == "503"):
                    assert kinds[response["$ref"]].status == int(status), (name, status)
        assert "HTTPValidationError" not in str(document)

    def test_says_which_type_an_error_is_of(self, document: dict[str, Any]) -> None:
        [content] = document["components"]["responses"]["NotFound"]["content"].items()
        assert content == ("application/problem+json", {"schema": {"allOf": [PROBLEM, {"properties": {
            "type": {"const": "urn:lustral:problem:not-found"}, "title": {"const": "Not found"}, "status": {"const": 404},
        }}]}})  # fmt: skip

    def test_says_which_scope_a_key_needs(self, document: dict[str, Any]) -> None:
        needed = {name: operation["security"][0]["API key"] for name, operation in operations(document) if "security" in operation}
        assert all(len(scopes) == 1 for scopes in needed.values())
        assert (needed["get /v1/jobs"], needed["post /v1/jobs"], needed["post /v1/keys"]) == (["read"], ["write"], ["admin"])

    def test_asks_for_a_key_everywhere_but_where_none_is_needed(self, document: dict[str, Any]) -> None:
        open_to_all = {name for name, operation in operations(document) if not operation.get("security")}
        assert open_to_all == {"get /healthz", "get /readyz", "get /metrics", "put /v1/uploads/{upload_id}/parts/{number}"}

    def test_takes_an_idempotency_key_wherever_something_is_created(self, document: dict[str, Any]) -> None:
        without = [
            name
            for name, operation in operations(document)
            if name.startswith("post ") and "Idempotency-Key" not in [parameter["name"] for parameter in operation.get("parameters", [])]
        ]
        assert without == ["post /v1/uploads/{upload_id}/complete", "post /v1/jobs/{job_id}/cancel"]  # these change nothing when sent twice
