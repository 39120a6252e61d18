"""How a file is cut into parts, by server and client alike."""

from __future__ import annotations

_MIB = 1024 * 1024
MOST_PARTS = 1000
SMALLEST_PART = 5 * _MIB
"""What S3 takes: only the last part of a file may be smaller."""
LARGEST_PART = 5 * 1024 * _MIB


def choose_part_size(total: int, smallest: int) -> int:
    """Bytes of every part but the last: at least `smallest`, and so large that there are at most 1,000 parts."""
    needed = -(-total // MOST_PARTS)
    return max(smallest, -(-needed // _MIB) * _MIB)


def part_sizes(total: int, part_size: int) -> list[int]:
    whole, rest = divmod(total, part_size)
    return [part_size] * whole + ([rest] if rest else [])
