"""From the projected tokens of an image's views to the span that takes the placeholder's place in the prompt.

The base view's tokens come first. The other views' tokens are put side by side as the views lie on the canvas, rows
and columns that show padding are cut away, the grid is shrunk where it exceeds the allowed number of views, and a
separator vector closes each row. `SpanPlan` computes all numbers of this once for every size of picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from gpu_jobs.families.base import Region
from gpu_jobs.families.llada_v.images import placement

# The official code shrinks only what is more than this much too long on each side.
SHRINK_THRESHOLD = 1.1


@dataclass(frozen=True, slots=True)
class SpanPlan:
    """How one size of picture becomes a span; rows and columns count tokens.

    views: (rows, columns) of views on the canvas. side: tokens along a view's side.
    trim: rows cut at the top and at the bottom, columns cut at the left and at the right.
    grid: (rows, columns) after trimming and shrinking.
    regions: what each token of the span looks at; None for a separator and for padding.
    """

    views: tuple[int, int]
    side: int
    trim: tuple[int, int]
    grid: tuple[int, int]
    regions: tuple[Region | None, ...]

    def pack(self, tokens: Tensor, separator: Tensor) -> Tensor:
        """The span of one image.

        tokens: [1 + rows · columns of views, side², hidden], the base view first.
        separator: [hidden].
        Returns: [len(regions), hidden].
        """
        base, rest = tokens[0], tokens[1:]
        (down, across), side, (trim_rows, trim_columns) = self.views, self.side, self.trim
        grid = rest.view(down, across, side, side, -1).permute(4, 0, 2, 1, 3).reshape(-1, down * side, across * side)
        grid = grid[:, trim_rows : down * side - trim_rows, trim_columns : across * side - trim_columns]
        if grid.shape[1:] != self.grid:
            grid = nn.functional.interpolate(grid[None], self.grid, mode="bilinear")[0]
        rows, columns = self.grid
        closed = torch.cat([grid.permute(1, 2, 0), separator.expand(rows, 1, -1)], dim=1)  # [rows, columns + 1, hidden]
        return torch.cat([base, closed.reshape(rows * (columns + 1), -1)])


@lru_cache(maxsize=4096)
def plan_span(size: tuple[int, int], canvas: tuple[int, int], view: int, patch: int, max_views: int) -> SpanPlan:
    """The plan for a picture of `size` (width, height) pixels on a `canvas` of views of `view` pixels, `patch` pixels a token."""
    side = view // patch
    down, across = canvas[1] // view, canvas[0] // view
    trim = _trim(size, rows=down * side, columns=across * side)
    rows, columns = down * side - 2 * trim[0], across * side - 2 * trim[1]
    excess = math.sqrt(rows * columns / (max_views * side**2))
    grid = (max(int(rows // excess), 1), max(int(columns // excess), 1)) if excess > SHRINK_THRESHOLD else (rows, columns)

    left, top, width, height = placement(size, canvas)
    row_intervals = _intervals(grid[0], rows, trim[0], side, view, patch, top, height)
    column_intervals = _intervals(grid[1], columns, trim[1], side, view, patch, left, width)
    regions: list[Region | None] = [
        Region(x * patch / view, y * patch / view, (x + 1) * patch / view, (y + 1) * patch / view) for y in range(side) for x in range(side)
    ]
    for row in row_intervals:
        regions += [Region(column[0], row[0], column[1], row[1]) if row and column else None for column in column_intervals]
        regions.append(None)
    return SpanPlan(views=(down, across), side=side, trim=trim, grid=grid, regions=tuple(regions))


def _trim(size: tuple[int, int], *, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of padding on either side. Rounded down twice, so one row of padding may stay, as in the official code.

    At least one row and column is left of a picture too thin for one token, where the official code fails.
    """
    width, height = size
    if width / height > columns / rows:
        return min(rows - int(height * (columns / width)), rows - 1) // 2, 0
    return 0, min(columns - int(width * (rows / height)), columns - 1) // 2


def _intervals(
    count: int, kept: int, trimmed: int, side: int, view: int, patch: int, offset: int, length: int
) -> list[tuple[float, float] | None]:
    """What `count` tokens along one axis look at, as fractions of the picture; None where that is padding alone.

    `kept` tokens are left of the canvas after `trimmed` at its start; the picture lies at `offset` and is `length` pixels long.
    """

    def fraction(position: float, towards_end: bool) -> float:
        # Views are `view` pixels apart, but their tokens cover only `side * patch` of them.
        index = math.ceil(position / side) - 1 if towards_end else math.floor(position / side)
        pixel = index * view + (position - index * side) * patch
        return min(max((pixel - offset) / length, 0.0), 1.0)

    intervals: list[tuple[float, float] | None] = []
    for token in range(count):
        start = fraction(trimmed + token * kept / count, towards_end=False)
        end = fraction(trimmed + (token + 1) * kept / count, towards_end=True)
        intervals.append((start, end) if end > start else None)
    return intervals
