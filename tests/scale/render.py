"""`python -m tests.scale.render`: put the figures of `benchmarks/scale/*.json` into docs/scale.md, between its markers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "scale"
PAGE = ROOT / "docs" / "scale.md"

Document = dict[str, Any]
Rows = list[dict[str, Any]]


def main() -> None:
    page = PAGE.read_text()
    for name, render in TABLES.items():
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        assert mark, f"{PAGE.name} has no place for {name}"
        assert end, f"{PAGE.name} has no end for {name}"
        page = before + mark + render(_read(name)) + end + after
    PAGE.write_text(page)


def _read(name: str) -> Any:
    """A document, or the rows of a benchmark."""
    rows = RESULTS / f"{name}.jsonl"
    if rows.exists():
        return [json.loads(line) for line in rows.read_text().splitlines()]
    return json.loads((RESULTS / f"{name}.json").read_text())


def _measured(found: Rows) -> str:
    rows = [(run["processes"], *(f"{run['stages'][stage]:.1f}" for stage in run["stages"]), f"× {run['speed_up']}") for run in found]
    one = found[0]
    note = f"{one['samples']} samples in {one['shards']} shards, {one['cores']} cores. Seconds; the speed-up is of scan and purify.\n\n"
    return note + _table(["worker processes", *one["stages"], "speed-up"], rows)


def _costs(found: Document) -> str:
    shards = list(next(iter(found["transactions"].values())))
    rows = [
        (name, *(f"{1000 * costs[number]['seconds']:.1f} / {1000 * costs[number]['database']:.2f}" for number in shards))
        for name, costs in found["transactions"].items()
    ]
    rest = ", ".join(f"{name} {1000 * found[name]:.1f}" for name in ("message", "put", "get"))
    return _table(["transaction", *(f"{number} shards" for number in shards)], rows) + f"\nAlso, in milliseconds: {rest}.\n"


def _simulation(found: Rows) -> str:
    rows = [
        (
            f"{row['scenario']}, {row['shards']} shards{' each' if row['jobs'] > 1 else ''}",
            f"{row['workers']:,}",
            f"{row['samples_per_second']:,.0f}",
            f"{row['efficiency']:.0%}",
            *(f"{share:.0%}" for share in row["busy"].values()),
        )
        for row in found
    ]
    return _table(["samples in", "workers", "samples/s", "efficiency", *(f"busy: {name}" for name in found[0]["busy"])], rows)


def _explain(found: Document) -> str:
    rows = [
        (row["query"], f"{row['milliseconds']:.2f}", f"{row['rows_read']:,}", ", ".join(f"`{index}`" for index in row["indexes"]) or "–")
        for row in found["queries"]
    ]
    forgotten = found["retention"]
    size = f"{found['jobs']:,} jobs, {found['events']:,} events, {found['bytes'] / 1e9:.1f} GB."
    forgetting = f"Forgetting {forgotten['forgotten']:,} events took {forgotten['seconds']} s."
    upgrade = f"The upgrade that made a partition of a table of that size (0008) took {found['partitioned_seconds']} s."
    return f"{size} {forgetting} {upgrade}\n\n" + _table(["query", "ms", "rows read", "indexes"], rows)


def _api(found: Rows) -> str:
    rows = [(f"`{row['route']}`", f"{row['requests_per_second']:,.0f}", row["p50_ms"], row["p99_ms"]) for row in found]
    return f"{found[0]['clients']} clients.\n\n" + _table(["route", "requests/s", "p50 ms", "p99 ms"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


TABLES: Mapping[str, Callable[[Any], str]] = {
    "measured": _measured,
    "costs": _costs,
    "simulation": _simulation,
    "explain": _explain,
    "api": _api,
}

if __name__ == "__main__":
    main()
