"""`python -m workers.benchmark scale | simulate | api`: what `lustral bench` runs, one JSON object a row in --out."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from gpu_jobs.benchmark.rows import machine, versions


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True)

    scale = commands.add_parser("scale", help="the same purification with one worker process, and with more")
    scale.add_argument("--processes", type=_numbers, default=(1, 2), help="separated by commas")
    scale.add_argument("--samples", type=int, default=1000)
    scale.add_argument("--shards", type=int, default=8)
    scale.set_defaults(run=_scale)

    simulate = commands.add_parser("simulate", help="ten million samples on up to a thousand workers")
    simulate.add_argument("--costs", type=Path, required=True, help="JSON of `python -m tests.scale.costs`")
    simulate.add_argument("--measured", type=Path, required=True, help="rows of `scale`: the times of the steps")
    simulate.add_argument("--samples", type=int, default=10_000_000)
    simulate.add_argument("--workers", type=_numbers, default=(1, 4, 16, 64, 128, 256, 512, 1000), help="separated by commas")
    simulate.add_argument("--seed", type=int, default=0)
    simulate.add_argument("--plot", type=Path, help="PNG file")
    simulate.set_defaults(run=_simulate)

    api = commands.add_parser("api", help="requests a second and latency of the main routes")
    api.add_argument("--seconds", type=float, default=5.0, help="for each route")
    api.add_argument("--clients", type=int, default=8, help="calling at the same time")
    api.set_defaults(run=_api)

    for command in (scale, simulate, api):
        command.add_argument("--out", type=Path, help="JSONL file")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        rows = arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    if arguments.out is not None:
        about = {"seed": 0, "versions": versions(), "machine": machine()}
        arguments.out.write_text("".join(json.dumps({**about, **row}) + "\n" for row in rows))
    return 0


def _scale(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from workers.benchmark.scale import measure

    with tempfile.TemporaryDirectory(prefix="lustral-bench-") as scratch:
        return measure(Path(scratch), arguments.processes, samples=arguments.samples, shards=arguments.shards, say=_say)


def _simulate(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from workers.benchmark.costs import Costs
    from workers.benchmark.scenarios import draw, simulate_all

    costs = Costs.read(arguments.costs, arguments.measured)
    found = simulate_all(costs, arguments.workers, samples=arguments.samples, seed=arguments.seed, say=_say)
    if arguments.plot is not None:
        draw(found, arguments.plot)
    return found


def _api(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from workers.benchmark.api import measure

    with tempfile.TemporaryDirectory(prefix="lustral-bench-") as scratch:
        return measure(Path(scratch), seconds=arguments.seconds, clients=arguments.clients, say=_say)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
