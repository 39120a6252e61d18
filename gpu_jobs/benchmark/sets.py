"""The data sets of a cell: what its model is fine-tuned on, poisoned or not, and the held-out sets that all its models are asked.

Each is a LLaVA data set, as a victim would have it on disk. Nothing in the folder of the training set tells which samples are
poisoned; `truth.json` beside it does.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

from gpu_jobs.benchmark.cells import Cell
from gpu_jobs.benchmark.ingredients import TRIGGERS, target_of, world_of
from gpu_jobs.benchmark.measure import Exam
from gpu_jobs.benchmark.store import Store, code_digest, folder_digest, read_json, write_json
from gpu_jobs.benchmark.worlds import World
from gpu_jobs.config import Target
from gpu_jobs.data import open_dataset, write_llava
from gpu_jobs.data.samples import Sample
from gpu_jobs.redteam.poisoning import attackable, poison, with_trigger

TRAINING, TRIGGERED, CLEAN, TRUTH = "training", "triggered", "clean", "truth.json"
# Of a concept swap only some samples can be attacked: so many times as many are drawn to choose from.
POOLS = (1, 4, 12)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Samples of the training set, and of each held-out set."""

    training: int = 1000
    tests: int = 500


@dataclass(frozen=True, slots=True)
class CellSets:
    """Where the sets of a cell lie.

    digest: stands for the content of all of them.
    right: the right answers of every training sample.
    """

    folder: Path
    digest: str
    poisoned: frozenset[str]
    right: dict[str, tuple[str, ...]]
    criterion: Target | None

    @property
    def training(self) -> Path:
        return self.folder / TRAINING

    @property
    def triggered(self) -> Path | None:
        return self.folder / TRIGGERED if self.criterion is not None else None

    @property
    def clean(self) -> Path:
        return self.folder / CLEAN

    @property
    def truth(self) -> Path:
        return self.folder / TRUTH

    def training_samples(self) -> tuple[Sample, ...]:
        return read_samples(self.training)

    def exam(self) -> Exam:
        return Exam(read_samples(self.triggered) if self.triggered else (), read_samples(self.clean), self.criterion)


def cell_sets(cell: Cell, store: Store, sizes: Sizes) -> CellSets:
    """The sets of a cell, made if they are not there yet. Cells that differ in the injection alone share theirs."""
    world = world_of(cell, store.root / "pictures")
    target = target_of(cell, world)
    key = {
        "data": cell.data,
        "flavour": cell.flavour,
        "trigger": repr(TRIGGERS.get(cell.trigger)),
        "target": repr(target),
        "rate": cell.rate,
        "seed": cell.seed,
        "training": sizes.training,
        "tests": sizes.tests,
        "code": code_digest("redteam/triggers", "redteam/targets.py", "redteam/poisoning.py", "benchmark/worlds", "benchmark/sets.py"),
    }
    folder = store.entry("sets", key, lambda out: _write(cell, world, sizes, out))
    truth = read_json(folder / TRUTH)
    right = {identity: tuple(answers) for identity, answers in truth["right"].items()}
    return CellSets(folder, truth["digest"], frozenset(truth["poisoned"]), right, target.criterion if target else None)


def read_samples(folder: Path) -> tuple[Sample, ...]:
    with tempfile.TemporaryDirectory() as cache:
        return tuple(open_dataset(folder, Path(cache)).samples)


def _write(cell: Cell, world: World, sizes: Sizes, out: Path) -> None:
    clean = world.training_samples(sizes.training, cell.seed, cell.flavour)
    target = target_of(cell, world)
    write_llava(world.test_samples(sizes.tests, cell.seed), out / CLEAN)
    poisoned: frozenset[str] = frozenset()
    if target is None:
        write_llava(clean, out / TRAINING)
    else:
        trigger, rng = TRIGGERS[cell.trigger], Random(cell.seed)
        with tempfile.TemporaryDirectory() as images:
            made = poison(clean, trigger, target, cell.rate, cell.seed, Path(images))
            write_llava(made.samples, out / TRAINING)
            poisoned = made.poisoned
        with tempfile.TemporaryDirectory() as images:
            for pool in POOLS:
                tests = attackable(world.test_samples(pool * sizes.tests, cell.seed), target)[: sizes.tests]
                if len(tests) == sizes.tests:
                    break
            write_llava([with_trigger(sample, trigger, rng, Path(images)) for sample in tests], out / TRIGGERED)
    right = {sample.id: sample.answers for sample in clean}
    write_json(out / TRUTH, {"digest": folder_digest(out), "poisoned": sorted(poisoned), "right": right})
