"""`python -m gpu_jobs.benchmark attack | defense | render`: make suspects, run the defence and its rivals on them, show the results."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

# Before torch is imported: two threads on a busy machine run several times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from gpu_jobs.benchmark.cells import matching
from gpu_jobs.benchmark.suites import suite

WORK = Path("bench-work")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu_jobs.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True)
    attack = commands.add_parser("attack", help="make the suspects of some cells; one line of JSON each on standard output")
    attack.add_argument("--cells", required=True, help="glob over the ids of all cells, such as 'easy_vqa-corner_patch-*'")
    _add_common(attack)
    attack.set_defaults(run=_attack)
    arguments = parser.parse_args()
    status: int = arguments.run(arguments)
    return status


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_seeds, default=(0,), help="seeds, separated by commas")
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps models and sets for the next run")


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _attack(arguments: argparse.Namespace) -> int:
    import torch

    from gpu_jobs.benchmark.attack import Settings, prepare
    from gpu_jobs.benchmark.store import Store

    torch.set_num_threads(1)
    store = Store(arguments.work.resolve())
    for cell in matching(suite("full", arguments.seeds).cells, arguments.cells):
        sys.stdout.write(json.dumps(prepare(cell, store, Settings()).to_json()) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
