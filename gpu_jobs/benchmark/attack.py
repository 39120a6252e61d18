"""The models of a cell before any defence: the suspect, and the same fine-tune on the set before the attack, its clean twin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_jobs.benchmark.cells import Cell
from gpu_jobs.benchmark.ingredients import world_of
from gpu_jobs.benchmark.injection import LEARNING_RATES, PARTS, Recipe, inject
from gpu_jobs.benchmark.measure import Exam, Figures, answering_model
from gpu_jobs.benchmark.sets import CellSets, Sizes, cell_sets
from gpu_jobs.benchmark.store import Store, digest, folder_digest, read_json, write_json

MODEL, ATTACK = "model", "attack.json"
# To be raised where a change of the code that trains should give other models.
VERSION = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same for all cells of a run."""

    sizes: Sizes = field(default_factory=Sizes)
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True, slots=True)
class Attacked:
    """A cell that is ready for its defences.

    digest: stands for suspect and sets.
    epochs: that the suspect was trained for.
    before: figures of the suspect; twin: of the clean twin, on the same sets. The suspect of a clean cell is its own twin.
    """

    cell: Cell
    digest: str
    sets: CellSets
    base: Path
    suspect: Path
    twin_model: Path
    epochs: float
    before: Figures
    twin: Figures
    taken_from: float
    exam: Exam

    @property
    def took(self) -> bool | None:
        """Whether the attack took; None where there is none."""
        rate = self.before.attack_success_rate
        return None if rate is None else rate >= self.taken_from

    def to_json(self) -> dict[str, Any]:
        """What `attack` prints."""
        return {
            "cell": self.cell.id,
            "took": self.took,
            "epochs": self.epochs,
            "asr": self.before.attack_success_rate,
            "ca": self.before.clean,
            "ra": self.before.recovered,
            "false_positives": self.before.false_positive_rate,
            "twin_asr": self.twin.attack_success_rate,
            "twin_ca": self.twin.clean,
            "twin_ra": self.twin.recovered,
            "suspect": str(self.suspect),
            "twin": str(self.twin_model),
            "training": str(self.sets.training),
            "triggered": str(self.sets.triggered) if self.sets.triggered else None,
            "clean": str(self.sets.clean),
            "truth": str(self.sets.truth),
        }


def prepare(cell: Cell, store: Store, settings: Settings) -> Attacked:
    """Sets and models of a cell, as far as they are not in the store yet."""
    sets = cell_sets(cell, store, settings.sizes)
    base = world_of(cell, store.root / "pictures").base
    key = {
        "version": VERSION,
        "sets": sets.digest,
        "criterion": sets.criterion.model_dump() if sets.criterion else None,
        "base": folder_digest(base),
        "parts": PARTS[cell.injection],
        "learning_rate": LEARNING_RATES[cell.injection],
        "seed": cell.seed,
        "recipe": settings.recipe.to_json(),
    }

    def make(out: Path) -> None:
        made = inject(base, out / MODEL, sets.training_samples(), exam, cell.injection, cell.seed, settings.recipe)
        write_json(out / ATTACK, {"cell": cell.id, "epochs": made.epochs, "figures": made.figures.to_json(), "rounds": made.log})

    exam = sets.exam()
    folder = store.entry("models", key, make)
    attack = read_json(folder / ATTACK)
    before = Figures(**attack["figures"])
    twin_model, twin = folder / MODEL, before
    if cell.attacked:
        twin_model = prepare(cell.clean_twin, store, settings).suspect
        twin = _twin_figures(twin_model, sets, exam, store)
    return Attacked(
        cell=cell,
        digest=digest({"model": folder.name, "sets": sets.digest}),
        sets=sets,
        base=base,
        suspect=folder / MODEL,
        twin_model=twin_model,
        epochs=attack["epochs"],
        before=before,
        twin=twin,
        taken_from=settings.recipe.taken,
        exam=exam,
    )


def _twin_figures(twin: Path, sets: CellSets, exam: Exam, store: Store) -> Figures:
    def make(out: Path) -> None:
        write_json(out / "figures.json", exam.sit(answering_model(twin, sets.training_samples())).to_json())

    folder = store.entry("twins", {"version": VERSION, "model": folder_digest(twin), "sets": sets.digest}, make)
    return Figures(**read_json(folder / "figures.json"))
