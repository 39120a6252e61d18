"""The pictures of the page of results. The same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gpu_jobs.benchmark.rows import Row

OURS, RIVAL, BOUND, INK = "#0e7490", "#94a3b8", "#d97706", "#334155"


def plot_methods(rows: Sequence[Row], path: Path) -> Path:
    """Attack success against recovered answers, one point a method: the median over the attacks. The good corner is bottom right."""
    names = sorted({row.method for row in rows})
    figure, axes = _figure(8, 5)
    labels: list[tuple[float, float, str]] = []
    for name in names:
        own = [row for row in rows if row.method == name and row.asr_after is not None and row.recovered_after is not None]
        if not own:
            continue
        x, y = (100 * median(values) for values in ([row.recovered_after or 0.0 for row in own], [row.asr_after or 0.0 for row in own]))
        colour = BOUND if own[0].oracle else OURS if name == "lustral" else RIVAL
        axes.scatter([x], [y], color=colour, s=45, zorder=3)
        labels.append((y, x, name))
    _label(axes, labels)
    axes.set(xlabel="right answers on triggered inputs, %", ylabel="attack success, %", xlim=(-3, 115), ylim=(-12, 105))
    return _save(figure, path)


def plot_cells(rows: Sequence[Row], path: Path) -> Path:
    """For every attack: right answers on triggered inputs before, by Lustral, by the best rival, and by the oracle."""
    cells = sorted({row.cell for row in rows}, reverse=True)
    figure, axes = _figure(8, 1.2 + 0.28 * len(cells))
    kinds = {"before": ("x", INK), "rivals": ("o", RIVAL), "oracle": ("D", BOUND), "lustral": ("o", OURS)}
    points: dict[str, list[tuple[float, int]]] = {kind: [] for kind in kinds}
    for place, cell in enumerate(cells):
        for row in (row for row in rows if row.cell == cell and row.recovered_after is not None):
            if row.method == "none" and row.recovered_before is not None:
                points["before"].append((100 * row.recovered_before, place))
            elif row.method in ("lustral", "true_labels"):
                points["lustral" if row.method == "lustral" else "oracle"].append((100 * (row.recovered_after or 0.0), place))
            elif not row.oracle:
                points["rivals"].append((100 * (row.recovered_after or 0.0), place))
    for kind, (marker, colour) in kinds.items():
        if points[kind]:
            x, y = zip(*points[kind], strict=True)
            axes.scatter(x, y, marker=marker, color=colour, s=35, label=kind, zorder=3)
    axes.set_yticks(range(len(cells)), cells, fontsize=7)
    axes.set(xlabel="right answers on triggered inputs, %", xlim=(-3, 103), ylim=(-0.7, len(cells) - 0.3))
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4, frameon=False, fontsize=8)
    return _save(figure, path)


def _label(axes: Any, labels: Sequence[tuple[float, float, str]]) -> None:
    """Names beside their points (y, x, name), from the top down, each below the one before it where they would overlap."""
    height, taken = 3.6, float("inf")
    for y, x, name in sorted(labels, reverse=True):
        taken = min(y, taken - height)
        line = {"arrowstyle": "-", "color": RIVAL, "linewidth": 0.5, "relpos": (0, 0.5)}
        axes.annotate(name, (x, y), xytext=(x + 4, taken), fontsize=8, color=INK, va="center", arrowprops=line)


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="#e2e8f0", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path
