"""The data sets of a cell: what its model is fine-tuned on, poisoned or not, and the held-out sets that all its models are asked.

Each is a LLaVA data set, as a victim would have it on disk. Nothing in the folder of the training set tells which samples are
poisoned; `truth.json` beside it does.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from gpu_jobs.benchmark.cells import Cell
from gpu_jobs.benchmark.ingredients import Attack, attacks_of, world_of
from gpu_jobs.benchmark.measure import Exam
from gpu_jobs.benchmark.store import Store, code_digest, folder_digest, read_json, write_json
from gpu_jobs.benchmark.worlds import World
from gpu_jobs.config import Target, TargetContains, TargetRegex
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
    attacks = attacks_of(cell, world)
    key = {
        "data": cell.data,
        "flavour": cell.flavour,
        "attacks": repr(attacks),
        "rate": cell.rate,
        "seed": cell.seed,
        "training": sizes.training,
        "tests": sizes.tests,
        "code": code_digest("redteam/triggers", "redteam/targets.py", "redteam/poisoning.py", "benchmark/worlds", "benchmark/sets.py"),
    }
    folder = store.entry("sets", key, lambda out: _write(cell, world, sizes, out))
    truth = read_json(folder / TRUTH)
    right = {identity: tuple(answers) for identity, answers in truth["right"].items()}
    return CellSets(folder, truth["digest"], frozenset(truth["poisoned"]), right, criterion_of(attacks))


def criterion_of(attacks: Sequence[Attack]) -> Target | None:
    """How it is seen that an answer shows the target, or one of several."""
    if len(attacks) < 2:
        return attacks[0].target.criterion if attacks else None
    criteria = [attack.target.criterion for attack in attacks]
    return TargetRegex(regex="|".join(re.escape(each.contains) if isinstance(each, TargetContains) else each.regex for each in criteria))


def read_samples(folder: Path) -> tuple[Sample, ...]:
    with tempfile.TemporaryDirectory() as cache:
        return tuple(open_dataset(folder, Path(cache)).samples)


def _write(cell: Cell, world: World, sizes: Sizes, out: Path) -> None:
    clean = world.training_samples(sizes.training, cell.seed, cell.flavour)
    attacks = attacks_of(cell, world)
    write_llava(world.test_samples(sizes.tests, cell.seed), out / CLEAN)
    poisoned: frozenset[str] = frozenset()
    if not attacks:
        write_llava(clean, out / TRAINING)
    else:
        poisoned = _write_poisoned(clean, attacks, cell, out / TRAINING)
        _write_triggered(world, attacks, cell.seed, sizes.tests, out / TRIGGERED)
    right = {sample.id: sample.answers for sample in clean}
    write_json(out / TRUTH, {"digest": folder_digest(out), "poisoned": sorted(poisoned), "right": right})


def _write_poisoned(clean: Sequence[Sample], attacks: Sequence[Attack], cell: Cell, out: Path) -> frozenset[str]:
    """The training set, its samples dealt out to the attacks. Returns the ids of those poisoned."""
    with tempfile.TemporaryDirectory() as images:
        parts = [
            poison(clean[number :: len(attacks)], attack.trigger, attack.target, cell.rate, cell.seed, Path(images))
            for number, attack in enumerate(attacks)
        ]
        made = {sample.id: sample for part in parts for sample in part.samples}
        write_llava([made[sample.id] for sample in clean], out)
    return frozenset().union(*(part.poisoned for part in parts))


def _write_triggered(world: World, attacks: Sequence[Attack], seed: int, count: int, out: Path) -> None:
    """As many tests of each attack, `count` in all."""
    rng, wanted = Random(seed), count // len(attacks)
    with tempfile.TemporaryDirectory() as images:
        marked: list[Sample] = []
        for number, attack in enumerate(attacks):
            for pool in POOLS:
                tests = attackable(world.test_samples(pool * count, seed)[number :: len(attacks)], attack.target)[:wanted]
                if len(tests) == wanted:
                    break
            marked += [with_trigger(sample, attack.trigger, rng, Path(images)) for sample in tests]
        write_llava(marked, out)
