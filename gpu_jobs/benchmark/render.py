"""Results as a page: tables and pictures of the rows, and nothing that no row says. The same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

from gpu_jobs.benchmark.bars import OURS, clean_change, of_the_oracle, reached, rivals_of, together
from gpu_jobs.benchmark.plots import plot_cells, plot_methods
from gpu_jobs.benchmark.rows import Row, read_rows

NO_NUMBER = "–"


def render(results: Sequence[Path], out: Path) -> None:
    """Write the page, and its pictures beside it.

    Raises:
        ValueError: there is not one row.
    """
    rows = sorted(read_rows(results), key=lambda row: (row.data, row.cell, row.method))
    if not rows:
        raise ValueError(f"no rows in {', '.join(map(str, results))}")
    figures = [row for row in rows if row.error is None]
    judged = [row for row in figures if row.took]
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures = []
    if judged:
        pictures = [
            plot_methods(judged, out.with_name(f"{out.stem}-methods.png")),
            plot_cells(judged, out.with_name(f"{out.stem}-cells.png")),
        ]
    parts = [
        "# Results of the benchmark",
        _about(rows, results),
        *[f"![{picture.stem}]({picture.name})" for picture in pictures],
        *_section("Bars", _BARS_TEXT, _bars_table(judged)),
        *_section("By cell", _CELLS_TEXT, _cells_table(judged)),
        *_section("By method", _METHODS_TEXT, _methods_table(judged)),
        *_section("Detection", _DETECTION_TEXT, _detection_table(judged)),
        *_section("Clean models", _CLEAN_TEXT, _clean_table([row for row in figures if not row.attacked and row.verdict])),
        *_section("Attacks that did not take", _NOT_TAKEN_TEXT, _not_taken_table([row for row in figures if row.took is False])),
        *_section("Failures", "Rows without figures.", _failures_table([row for row in rows if row.error is not None])),
    ]
    out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


_BARS_TEXT = """What is asked of Lustral on every attack that took, and on how many it is met; of the median, more is asked at times.
In percent. A lead is known where rivals were run; where the oracle recovers nothing, there is no share of it."""
_CELLS_TEXT = """Of every attack that took. *Attack*: triggered answers that show the target. *Clean*: clean answers that are right.
*Recovered*: triggered answers that are right. *Oracle*: recovered by the same fine-tune on the right answers, which no defence has.
*Together*: the mean of attacks that fail, of clean and of recovered answers. *Best rival*: the best by that of the methods that do
not read the truth, ours left out, and of how many. All in percent."""
_METHODS_TEXT = """Median over the attacks that took, and the worst of them in brackets. *Of the oracle*: recovered, divided by the
oracle's. *Together*: as above. Methods marked *oracle* read the truth: they are yardsticks, no rivals."""
_DETECTION_TEXT = """What Lustral found, with no labels and no clean data. *AUROC*: of the scan's scores. *Flagged*: of the poisoned
and of the other samples. *Residual*: poisoned samples that still show the target in the purified set. *Kept*: clean samples
that keep their answers."""
_CLEAN_TEXT = "Models that were never attacked. The right verdict is `clean`; anything but `backdoored` is no false alarm."
_NOT_TAKEN_TEXT = "No defence is judged by these: there was little to defend against."


def _about(rows: Sequence[Row], results: Sequence[Path]) -> str:
    tests = sorted({row.n for row in rows if row.n is not None})
    samples = sorted({row.samples for row in rows if row.samples is not None})
    files = ", ".join(f"`{path.name}`" for path in sorted(results))
    lines = [
        f"{len(rows)} rows from {files}; seeds {_listed(sorted({row.seed for row in rows}))}.",
        f"Training sets of {_listed(samples)} samples; every share is over {_listed(tests)} held-out samples.",
        *(f"Computed on {name}." for name in sorted({row.machine for row in rows if row.machine})),
        *(f"With {stack}." for stack in sorted({_versions(row) for row in rows if row.versions})),
        f"Digests of Lustral's code: {_listed(sorted({row.code or 'unknown' for row in rows if row.method == OURS}))}.",
        "Written by `python -m gpu_jobs.benchmark render`; do not edit.",
    ]
    return "\n".join(lines)


def _bars_table(rows: Sequence[Row]) -> list[list[str]]:
    table = [["", "asked", "met on", "median", "asked of it", "worst"]]
    for each in reached(rows):
        bar = each.bar
        middle = NO_NUMBER if bar.middle is None else f"{bar.direction} {_percent(bar.middle)}"
        asked = f"{bar.direction} {_percent(bar.limit)}"
        table.append([bar.name, asked, f"{each.met} of {each.cells}", _percent(each.median), middle, _percent(each.worst)])
    return table


def _cells_table(rows: Sequence[Row]) -> list[list[str]]:
    figures = ["attack before", "attack after", "clean before", "clean after", "recovered", "oracle", "of it", "together"]
    table = [["cell", *figures, "best rival", "verdict"]]
    for ours in (row for row in rows if row.method == OURS):
        rivals = rivals_of(ours, rows)
        rival = f"{rivals[0].method}: {_percent(together(rivals[0]))} (of {len(rivals)})" if rivals else NO_NUMBER
        table.append(
            [
                f"`{ours.cell}`",
                *map(_percent, (ours.asr_before, ours.asr_after, ours.clean_before, ours.clean_after)),
                *map(_percent, (ours.recovered_after, ours.recovered_oracle, of_the_oracle(ours), together(ours))),
                rival,
                ours.verdict or NO_NUMBER,
            ]
        )
    return table


def _methods_table(rows: Sequence[Row]) -> list[list[str]]:
    table = [["method", "cells", "attack after", "clean, change", "recovered", "of the oracle", "together", "seconds"]]
    methods = {row.method: [each for each in rows if each.method == row.method] for row in rows}
    order = sorted(methods, key=lambda name: (methods[name][0].oracle, -_middle(methods[name], together), name))
    for name in order:
        own = methods[name]
        table.append(
            [
                f"{name} (oracle)" if own[0].oracle else name,
                str(len(own)),
                _spread(own, lambda row: row.asr_after, max),
                _spread(own, clean_change, min),
                _spread(own, lambda row: row.recovered_after, min),
                _spread(own, of_the_oracle, min),
                _spread(own, together, min),
                f"{_middle(own, lambda row: row.seconds):.0f}",
            ]
        )
    return table


def _detection_table(rows: Sequence[Row]) -> list[list[str]]:
    table = [["cell", "verdict", "target found", "AUROC", "flagged, poisoned", "flagged, others", "residual", "kept", "set aside"]]
    for row in (row for row in rows if row.method == OURS):
        auroc = NO_NUMBER if row.scan_auroc is None else f"{row.scan_auroc:.3f}"
        shares = [_percent(share) for share in (row.flags_tpr, row.flags_fpr, row.residual, row.kept)]
        found = "yes" if row.target_found else "no"
        table.append([f"`{row.cell}`", row.verdict or NO_NUMBER, found, auroc, *shares, str(row.set_aside)])
    return table


def _clean_table(rows: Sequence[Row]) -> list[list[str]]:
    table = [["model", "method", "verdict", "flagged", "kept", "clean before", "clean after"]]
    for row in rows:
        shares = [_percent(share) for share in (row.flags_fpr, row.kept, row.clean_before, row.clean_after)]
        table.append([f"`{row.cell}`", row.method, row.verdict or NO_NUMBER, *shares])
    return table


def _not_taken_table(rows: Sequence[Row]) -> list[list[str]]:
    cells = {row.cell: row for row in rows}
    table = [["cell", "epochs", "attack", "clean"]]
    table += [[f"`{row.cell}`", f"{row.epochs:g}", _percent(row.asr_before), _percent(row.clean_before)] for row in cells.values()]
    return table


def _failures_table(rows: Sequence[Row]) -> list[list[str]]:
    return [["cell", "method", "error"], *([f"`{row.cell}`", row.method, _one_line(row.error or "")] for row in rows)]


def _spread(rows: Iterable[Row], value: Callable[[Row], float | None], worst: Callable[[list[float]], float]) -> str:
    values = [number for row in rows if (number := value(row)) is not None]
    return f"{_percent(median(values))} ({_percent(worst(values))})" if values else NO_NUMBER


def _middle(rows: Iterable[Row], value: Callable[[Row], float | None]) -> float:
    values = [number for row in rows if (number := value(row)) is not None]
    return median(values) if values else 0.0


def _section(title: str, text: str, table: list[list[str]]) -> list[str]:
    """Nothing for a table without rows."""
    if len(table) == 1:
        return []
    head, *body = [f"| {' | '.join(line)} |" for line in table]
    return [f"## {title}", text, "\n".join([head, "|---" * len(table[0]) + "|", *body])]


def _percent(share: float | None) -> str:
    return NO_NUMBER if share is None else f"{100 * share:.1f}"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or NO_NUMBER


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted((row.versions or {}).items()))


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:200]
