"""What a finished job comes down to: a few lines for people, an exit status for CI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.cli.failures import COULD_NOT_TELL

FIGURES = (
    ("ASR", "attack success rate", "attack_success_rate"),
    ("CA", "right answers on clean inputs", "clean_score"),
    ("RA", "right answers on triggered inputs", "recovered_score"),
)


def exit_status(job: Mapping[str, Any], fail_on: str | None) -> int:
    """0: nothing found, or still running; 1: what `fail_on` names was found; 2: it failed, or nobody can tell."""
    if job["status"] in ("failed", "cancelled"):
        return COULD_NOT_TELL
    verdict = (job["result"] or {}).get("verdict")
    if verdict == "inconclusive":
        return COULD_NOT_TELL
    return 1 if fail_on is not None and verdict == fail_on else 0


def print_outcome(console: Console, job: Mapping[str, Any], output: Path | None) -> None:
    result = job["result"] or {}
    console.print(f"{job['id']}  {job['kind']}  {job['status']}", highlight=False)
    if job["error"]:
        console.print(f"{job['error']['title']}: {job['error']['detail']}", highlight=False, markup=False)
    if "verdict" in result:
        suspects = result["suspects"]
        console.print(
            f"Verdict: [bold]{result['verdict']}[/] (confidence {result['confidence']:.3f}); "
            f"{suspects['count']} suspects, {suspects['fraction']:.1%} of the data set",
            highlight=False,
        )
        if result.get("target"):
            console.print(f"Target: {result['target']['kind']}: {result['target']['text']!r}", highlight=False, markup=False)
    if "before" in result or "after" in result:
        console.print(figures_table(result))
    if output is not None:
        console.print(f"Artifacts: {output}", highlight=False)


def figures_table(result: Mapping[str, Any]) -> Table:
    """The figures before and after, as `result` of a job has them."""
    table = Table(title="Estimated on suspects and held-out samples" if result.get("estimated") else None, title_justify="left")
    table.add_column("")
    columns = [name for name in ("before", "after") if result.get(name)]
    for name in columns:
        table.add_column(name, justify="right")
    for short, long, field in FIGURES:
        table.add_row(f"{short}  {long}", *(_percent(result[name].get(field)) for name in columns))
    return table


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.1f} %"
