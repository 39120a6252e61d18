"""Which of the forms we have is the one that a client asks for (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence


def choose_media_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """The offered media type that `Accept` prefers; among equals the one offered first. None: it wants none of them."""
    if not accept:
        return offered[0]
    ranges = [_parse(entry) for entry in accept.split(",") if entry.strip()]
    qualities = [_quality(media_type, ranges) for media_type in offered]
    best = max(qualities)
    return offered[qualities.index(best)] if best > 0 else None


def _parse(entry: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip().lower() for part in entry.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_range, min(1.0, max(0.0, float(value)))
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that the media type falls into."""
    qualities = dict(reversed(ranges))
    for candidate in (media_type, f"{media_type.split('/', maxsplit=1)[0]}/*", "*/*"):
        if candidate in qualities:
            return qualities[candidate]
    return 0.0
