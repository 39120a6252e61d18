"""What the published OpenAPI document says on top of what FastAPI finds by itself."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

from fastapi import FastAPI

from app.errors import (
    Forbidden,
    InvalidInput,
    PayloadTooLarge,
    ProblemDocument,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    problem_kinds,
    problem_responses,
)

DESCRIPTION = """Hand over a suspect model and the data it was tuned on. Lustral says whether a backdoor is there, shows the evidence,
cleans the data with the model itself, fine-tunes the model back, proves the effect and hands out purified weights.

Errors are RFC 9457 `application/problem+json`. Lists are newest first: `?limit=&after=`. Every POST that creates takes an
`Idempotency-Key`."""

COMMON_RESPONSES: dict[int | str, dict[str, Any]] = problem_responses(
    Unauthenticated, Forbidden, PayloadTooLarge, InvalidInput, TooManyRequests, Unavailable
)


def version() -> str:
    return installed_version("lustral")


def describe_problems(app: FastAPI) -> None:
    """Add what the responses of errors refer to, and take out what is never sent: FastAPI's own shape of validation errors, and
    errors of the key where none is asked for."""
    build = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            built = build()
            schemas = built["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs"))
            schemas["ProblemDocument"] = problem
            built["components"]["responses"] = {kind.__name__: kind.schema() for kind in problem_kinds()}
            for operation in (operation for path in built["paths"].values() for operation in path.values()):
                operation["responses"] = _responses(operation)
        assert app.openapi_schema is not None  # noqa: S101  build() sets it
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _responses(operation: dict[str, Any]) -> dict[str, Any]:
    """By status, errors as nothing but references."""
    responses = {
        status: {"$ref": response["$ref"]} if "$ref" in response else response
        for status, response in sorted(operation["responses"].items())
    }
    if "security" not in operation:
        for kind in (Unauthenticated, TooManyRequests):
            responses.pop(str(kind.status), None)
    return responses
