"""The `Range` header (RFC 9110, section 14): one range of bytes, or everything."""

from __future__ import annotations

import re

from app.errors import RangeNotSatisfiable

_ONE_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """`(start, stop)` of the range asked for, `stop` not included; None for the whole: no range, several, or one that means nothing.

    Raises:
        RangeNotSatisfiable: the range begins after the last byte.
    """
    match = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if match is None or not any(match.groups()) or max(map(len, match.groups())) > 18:
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size:
        raise RangeNotSatisfiable(f"There are {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return start, stop
