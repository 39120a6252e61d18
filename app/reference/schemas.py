"""JSON schemas in the words of the API reference."""

from __future__ import annotations

import re
from typing import Any

Schema = dict[str, Any]

_WORDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "null": "null", "object": "object"}
_CONSTRAINTS = {
    "minimum": "at least {:.15g}",
    "exclusiveMinimum": "more than {:.15g}",
    "maximum": "at most {:.15g}",
    "exclusiveMaximum": "less than {:.15g}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxLength": "at most {} characters",
    "pattern": "matches `{}`",
}
_FORMATS = {"date-time": "time"}


def anchor(title: str) -> str:
    """What a link to the heading `title` ends with, as GitHub and GitLab make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def is_page(name: str) -> bool:
    """Whether this is the schema of a page of a list: they are all alike and are told of once."""
    return name.startswith("Page_")


def describe_value(schema: Schema) -> str:
    """The type of a value, with links to the objects it is made of, and what it must fulfil: `integer, at least 1, at most 100`."""
    return ", ".join([_type(schema), *_constraints(schema)])


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_type(option) for option in schema[choice]))
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return ", ".join(_literal(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of text to {_type(schema['additionalProperties'])}"
    return _FORMATS.get(schema.get("format", "")) or _WORDS.get(schema.get("type", ""), "anything")


def _constraints(schema: Schema) -> list[str]:
    return [words.format(option[name]) for option in _options(schema) for name, words in _CONSTRAINTS.items() if name in option]


def _options(schema: Schema) -> list[Schema]:
    """The schema and the alternatives it offers: `null` beside it says nothing about the rest."""
    return [schema, *schema.get("anyOf", [])]


def _link(name: str) -> str:
    if is_page(name):
        return f"[page](#lists) of {_link(name.removeprefix('Page_').removesuffix('_'))}"
    return f"[{name}](#{anchor(name)})"


def _literal(value: object) -> str:
    return f"`{value}`"
