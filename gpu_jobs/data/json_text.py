"""JSON from strangers: every way in which it can be broken is a ValueError."""

from __future__ import annotations

import json
from typing import Any


def parse_json(content: bytes | str, *, unique_keys: bool = False) -> Any:
    """The value that UTF-8 JSON says. With `unique_keys`, an object that names a key twice is an error too.

    Raises:
        ValueError: it is no UTF-8, no JSON, nested too deeply, or holds a number too long to read.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    try:
        return json.loads(text, object_pairs_hook=_without_repetition if unique_keys else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a key is there twice")
    return unique


def dump_row(row: dict[str, Any]) -> str:
    """One line of JSON. Readable in every language, unless a field holds what UTF-8 cannot say."""
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(row)
    return text
