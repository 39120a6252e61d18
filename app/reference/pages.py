"""What the generated pages say, by the names of their files in docs/."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.errors import problem_kinds
from app.main import create_routes
from app.reference.schemas import anchor, describe_value, is_page

_METHODS = ("get", "post", "put", "patch", "delete")


def generated_pages() -> dict[str, str]:
    """The text of each page. Equal code gives equal text."""
    document = create_routes().openapi()
    environment = Environment(
        loader=PackageLoader("app.reference", "."),
        autoescape=False,  # noqa: S701  what is rendered is Markdown, out of our own code
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"type": describe_value, "cell": _cell, "anchor": anchor}
    operations = _operations(document)
    keyed = [operation["errors"].keys() for operation in operations if operation["scopes"]]
    return {
        "openapi.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        "api.md": environment.get_template("api.md.j2").render(
            groups=_grouped(operations),
            common=sorted(set.intersection(*map(set, keyed))),
            objects={name: schema for name, schema in sorted(document["components"]["schemas"].items()) if not is_page(name)},
        ),
        "errors.md": environment.get_template("errors.md.j2").render(kinds=problem_kinds()),
    }


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every operation, in the order of the document, its responses parted into answers and errors."""
    operations = []
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method not in item:
                continue
            operation = item[method]
            responses = operation["responses"].items()
            errors = {status: _name(response) for status, response in responses if "$ref" in response}
            operations.append(
                {
                    "title": f"{method.upper()} {path}",
                    "tag": operation["tags"][0],
                    "description": operation["description"],
                    "scopes": [scope for requirement in operation.get("security", []) for scope in requirement["API key"]],
                    "parameters": [parameter for parameter in operation.get("parameters", []) if not _is_plain_id(parameter)],
                    "body": operation.get("requestBody", {}).get("content", {}),
                    "answers": {status: response for status, response in responses if status not in errors},
                    "errors": errors,
                }
            )
    return operations


def _grouped(operations: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for operation in operations:
        groups.setdefault(operation["tag"], []).append(operation)
    return groups


def _is_plain_id(parameter: dict[str, Any]) -> bool:
    """Whether the path says all there is to say of it."""
    return bool(parameter["in"] == "path" and describe_value(parameter["schema"]) == "text")


def _name(reference: dict[str, Any]) -> str:
    name: str = reference["$ref"].rpartition("/")[2]
    return name


def _cell(text: str) -> str:
    """Text that may stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
