"""The two charts of a report, as SVG text that a page carries inline and whose colours its style sheet chooses."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def draw_before_after(measures: Sequence[tuple[str, float | None, float | None]]) -> str:
    """Horizontal bars, two for each measure. measures: (name, before, after), shares between 0 and 1; None where unknown."""
    row, left, width = 58, 190, 430
    height = row * len(measures) + 34
    parts = [f'<svg viewBox="0 0 720 {height}" role="img" aria-label="Before and after the defence">']
    for tick in range(0, 101, 25):
        x = left + width * tick / 100
        parts.append(f'<line x1="{x}" x2="{x}" y1="8" y2="{height - 26}"/>')
        parts.append(f'<text x="{x}" y="{height - 10}" text-anchor="middle" font-size="12">{tick} %</text>')
    for index, (name, before, after) in enumerate(measures):
        top = 14 + index * row
        parts.append(f'<text x="{left - 12}" y="{top + 25}" text-anchor="end" font-size="14">{escape(name)}</text>')
        for offset, value, label in ((0, before, "before"), (20, after, "after")):
            if value is None:
                text, end = "not measured", float(left)
            else:
                text, end = f"{100 * value:.1f} %", left + width * value
                parts.append(
                    f'<rect x="{left}" y="{top + offset}" width="{max(1.5, width * value):.1f}" height="16" rx="2" class="{label}"/>'
                )
            parts.append(f'<text x="{end + 6:.1f}" y="{top + offset + 13}" font-size="12">{text} {label}</text>')
    return "".join([*parts, "</svg>"])


def draw_curve(points: Sequence[tuple[float, float]], *, x_label: str, y_label: str) -> str:
    """A line over (x, y) points, its y axis starting at zero. Fewer than two points give an empty string."""
    if len(points) < 2:
        return ""
    left, top, width, height = 56, 12, 630, 170
    x_low, x_high = points[0][0], max(points[-1][0], points[0][0] + 1e-9)
    y_high = max(y for _, y in points) or 1.0

    def place(point: tuple[float, float]) -> str:
        return f"{left + width * (point[0] - x_low) / (x_high - x_low):.1f},{top + height * (1 - point[1] / y_high):.1f}"

    parts = [f'<svg viewBox="0 0 720 {top + height + 44}" role="img" aria-label="{escape(y_label)} over {escape(x_label)}">']
    for share in (0.0, 0.5, 1.0):
        y = top + height * (1 - share)
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" font-size="12">{y_high * share:.3g}</text>')
    parts.append(f'<polyline points="{" ".join(map(place, points))}"/>')
    bottom = top + height + 18
    parts.append(f'<text x="{left}" y="{bottom}" font-size="12">{x_low:g}</text>')
    parts.append(f'<text x="{left + width}" y="{bottom}" text-anchor="end" font-size="12">{x_high:g}</text>')
    title, middle = f"{escape(y_label)} over {escape(x_label)}", left + width / 2
    parts.append(f'<text x="{middle}" y="{bottom + 16}" text-anchor="middle" font-size="12">{title}</text>')
    return "".join([*parts, "</svg>"])
