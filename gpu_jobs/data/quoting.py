"""Words of strangers in our messages."""

from __future__ import annotations

_LONGEST = 2000


def presentable(text: str) -> str:
    """A message that may quote an upload, fit for a terminal, a log and JSON: printable, valid Unicode, not endless."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text[:_LONGEST])
    return shown + "…" * (len(text) > _LONGEST)
