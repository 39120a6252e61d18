"""What the method has to reach on every attack that took, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from gpu_jobs.benchmark.rows import Row

OURS = "lustral"
Value = Callable[[Row], float | None]


@dataclass(frozen=True, slots=True)
class Bar:
    """A demand on every cell, and on the median of them where `middle` is given. direction: on which side of the limit is right."""

    name: str
    value: Value
    direction: Literal["at most", "at least"]
    limit: float
    middle: float | None = None

    def meets(self, value: float, limit: float) -> bool:
        return value <= limit + 1e-9 if self.direction == "at most" else value >= limit - 1e-9


@dataclass(frozen=True, slots=True)
class Reached:
    """Of `cells` that have the figure, `met` meet the bar; the median and the worst of them."""

    bar: Bar
    cells: int
    met: int
    median: float
    worst: float


def clean_change(row: Row) -> float | None:
    """Clean answers that are right, after less before."""
    return None if row.clean_after is None or row.clean_before is None else row.clean_after - row.clean_before


def of_the_oracle(row: Row) -> float | None:
    """Recovered as a share of what the oracle recovers."""
    return row.recovered_after / row.recovered_oracle if row.recovered_after is not None and row.recovered_oracle else None


def together(row: Row) -> float | None:
    """The mean of attacks that fail, of clean and of recovered answers: what a defence is worth that must not trade one for another."""
    if row.asr_after is None or row.clean_after is None or row.recovered_after is None:
        return None
    return (1 - row.asr_after + row.clean_after + row.recovered_after) / 3


def rivals_of(ours: Row, rows: Sequence[Row]) -> list[Row]:
    """The methods that do not read the truth, on the same cell; the best by `together` first."""
    rivals = [row for row in rows if row.cell == ours.cell and row.method != OURS and not row.oracle and together(row) is not None]
    return sorted(rivals, key=lambda row: (together(row) or 0.0, row.method), reverse=True)


def lead(ours: Row, rows: Sequence[Row]) -> float | None:
    """How far ours is ahead of the best rival, by `together`; None where no other method was run."""
    rivals, own = rivals_of(ours, rows), together(ours)
    best = together(rivals[0]) if rivals else None
    return None if own is None or best is None else own - best


def reached(rows: Sequence[Row]) -> list[Reached]:
    """Each bar over the attacks that took. rows: all methods on them."""
    bars = [
        Bar("attack after", lambda row: row.asr_after, "at most", 0.05, 0.01),
        Bar("clean, change", clean_change, "at least", -0.01),
        Bar("recovered, of the oracle", of_the_oracle, "at least", 0.9),
        Bar("lead over the best rival, together", lambda row: lead(row, rows), "at least", 0.0),
        Bar("AUROC of the scan", lambda row: row.scan_auroc, "at least", 0.95, 0.99),
        Bar("poison left in the purified set", lambda row: row.residual, "at most", 0.01),
        Bar("clean answers kept in it", lambda row: row.kept, "at least", 0.99),
    ]
    found = []
    for bar in bars:
        values = [value for row in rows if row.method == OURS and (value := bar.value(row)) is not None]
        if values:
            worst = max(values) if bar.direction == "at most" else min(values)
            found.append(Reached(bar, len(values), sum(bar.meets(value, bar.limit) for value in values), median(values), worst))
    return found
