"""`python -m gpu_jobs.benchmark attack | defense | render | pictures | speed`: make suspects, defend them, and show what came of it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

# Before torch is imported: two threads on a busy machine run several times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from gpu_jobs.benchmark.cells import Cell, matching
from gpu_jobs.benchmark.suites import SUITES, suite

if TYPE_CHECKING:
    from gpu_jobs.benchmark.attack import Settings

WORK = Path("bench-work")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu_jobs.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True)

    attack = commands.add_parser("attack", help="make the suspects of some cells; one line of JSON each on standard output")
    attack.add_argument("--cells", required=True, help="glob over the ids of all cells, such as 'easy_vqa-corner_patch-*'")
    _add_common(attack)
    attack.set_defaults(run=_attack)

    defense = commands.add_parser("defense", help="run the methods of a suite on its cells; one line of JSON a row in --out")
    defense.add_argument("--suite", choices=SUITES, default="smoke")
    defense.add_argument("--out", type=Path, required=True, help="JSONL file; what it holds already is not run again")
    defense.add_argument("--cells", default="*", help="glob over the ids of the suite's cells")
    defense.add_argument("--methods", type=lambda text: text.split(","), help="in place of the suite's, separated by commas")
    defense.add_argument("--processes", type=int, default=2)
    _add_common(defense)
    defense.set_defaults(run=_defense)

    render = commands.add_parser("render", help="write the tables and pictures of results")
    render.add_argument("--results", type=Path, nargs="+", required=True)
    render.add_argument("--out", type=Path, required=True, help="Markdown file; its pictures lie beside it")
    render.set_defaults(run=_render)

    pictures = commands.add_parser("pictures", help="draw a suspect of each cell as the defence saw it")
    pictures.add_argument("--cells", required=True, help="ids of cells, separated by commas")
    pictures.add_argument("--out", type=Path, required=True, help="PNG file")
    _add_common(pictures)
    pictures.set_defaults(run=_pictures)

    speed = commands.add_parser("speed", help="time the steps of a defence; one line of JSON each in --out")
    speed.add_argument("--model", type=Path, help="checkpoint folder, with --dataset; none: the bundled suspect")
    speed.add_argument("--dataset", type=Path)
    speed.add_argument("--samples", type=int, default=200, help="of the bundled suspect's training set")
    speed.add_argument("--seed", type=int, default=0)
    speed.add_argument("--out", type=Path, help="JSONL file")
    speed.set_defaults(run=_speed)

    arguments = parser.parse_args()
    _end_in_order()
    try:
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except ValueError as error:
        parser.error(str(error))
    return status


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_seeds, default=(0,), help="separated by commas")
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps models and sets for the next run")
    smaller = parser.add_argument_group("for a try; the benchmark's results are those of the defaults")
    smaller.add_argument("--training-samples", type=int, default=1000)
    smaller.add_argument("--test-samples", type=int, default=500)
    smaller.add_argument("--epochs", type=float, default=6.0, help="of a round of training")
    smaller.add_argument("--rounds", type=int, default=4, help="rounds at most")


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _attack(arguments: argparse.Namespace) -> int:
    import torch

    from gpu_jobs.benchmark.attack import prepare
    from gpu_jobs.benchmark.store import Store

    torch.set_num_threads(1)
    store = Store(arguments.work.resolve())
    for cell in _chosen(suite("full", arguments.seeds).cells, arguments.cells):
        sys.stdout.write(json.dumps(prepare(cell, store, _settings(arguments)).to_json()) + "\n")
        sys.stdout.flush()
    return 0


def _defense(arguments: argparse.Namespace) -> int:
    chosen = suite(arguments.suite, arguments.seeds)
    cells = _chosen(chosen.cells, arguments.cells)

    from gpu_jobs.benchmark.methods import METHODS
    from gpu_jobs.benchmark.run import check_methods, run

    methods = check_methods(arguments.methods or chosen.methods or METHODS)
    failed = run(cells, methods, arguments.out, arguments.work.resolve(), _settings(arguments), arguments.processes)
    return 1 if failed else 0


def _render(arguments: argparse.Namespace) -> int:
    from gpu_jobs.benchmark.render import render

    render(arguments.results, arguments.out)
    return 0


def _pictures(arguments: argparse.Namespace) -> int:
    import torch

    from gpu_jobs.benchmark.attack import prepare
    from gpu_jobs.benchmark.pictures import draw_pictures
    from gpu_jobs.benchmark.store import Store

    torch.set_num_threads(1)
    store, all_cells = Store(arguments.work.resolve()), suite("full", arguments.seeds).cells
    cells = [cell for name in arguments.cells.split(",") for cell in _chosen(all_cells, name)]
    draw_pictures([prepare(cell, store, _settings(arguments)) for cell in cells], store, arguments.out)
    return 0


def _speed(arguments: argparse.Namespace) -> int:
    from gpu_jobs.benchmark.speed import measure
    from gpu_jobs.bundled.__main__ import MODELS
    from gpu_jobs.bundled.datasets import suspect_training_set
    from gpu_jobs.config import JobParameters
    from gpu_jobs.data.formats import write_llava

    with TemporaryDirectory(prefix="lustral-bench-") as name:
        scratch = Path(name)
        model, dataset = arguments.model, arguments.dataset
        if model is None or dataset is None:
            model, dataset = MODELS / "suspect", scratch / "training"
            write_llava(suspect_training_set(scratch / "images").samples[: arguments.samples], dataset)
        with open(arguments.out or os.devnull, "w", encoding="utf-8") as out:  # noqa: PTH123  (of no file, too)
            for row in measure(model, dataset, scratch / "run", JobParameters(seed=arguments.seed)):
                out.write(json.dumps(row) + "\n")
                out.flush()
                pace = f", {row['per_second']:,.1f} {row['unit']}/s" if row["units"] else ""
                sys.stdout.write(f"{row['step']:<9} {row['seconds']:>9,.2f} s, {row['peak_memory_bytes'] / 1e9:.2f} GB{pace}\n")
                sys.stdout.flush()
    return 0


def _chosen(cells: list[Cell], pattern: str) -> list[Cell]:
    found = matching(cells, pattern)
    if not found:
        raise ValueError(f"no cell matches {pattern!r}; the first is {cells[0].id}")
    return found


def _settings(arguments: argparse.Namespace) -> Settings:
    from gpu_jobs.benchmark.attack import Settings
    from gpu_jobs.benchmark.injection import Recipe
    from gpu_jobs.benchmark.sets import Sizes

    sizes = Sizes(arguments.training_samples, arguments.test_samples)
    return Settings(sizes, Recipe(round=arguments.epochs, rounds=arguments.rounds))


def _end_in_order() -> None:
    """SIGTERM and SIGHUP as exceptions, so that workers are stopped; SIGINT too, which background processes would ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
