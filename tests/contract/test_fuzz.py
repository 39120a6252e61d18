"""Whatever is sent, the API answers as its document says, and never with a failure of its own."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance, status_code_conformance
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from tests.worlds.api import Server, Tenant

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
# PostgreSQL minds more of what it is given than SQLite, so it is given more.
EXAMPLES = {"embedded": 2, "production": 6}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["well-formed", "malformed"])
def test_every_operation_survives_whatever_is_sent(
    server: Server, tenant: Tenant, mode: GenerationMode, request: pytest.FixtureRequest
) -> None:
    examples = EXAMPLES[request.node.callspec.params["server"]]
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.path_parameters or operation.query):
            continue  # nothing to get wrong

        @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def survives(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {tenant.key}"})

        survives()
        tried += 1
    assert tried >= 25
