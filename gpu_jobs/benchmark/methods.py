"""What is measured on a cell: the product, its published preset, and every baseline. One method on one cell is one row."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_jobs.benchmark.attack import Attacked
from gpu_jobs.benchmark.defended import CODE, defended
from gpu_jobs.benchmark.measure import GENERATION, Figures, answering_model
from gpu_jobs.benchmark.rows import Row, machine, versions
from gpu_jobs.benchmark.store import Store, code_digest, digest, read_json, write_json
from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.families.registry import identify_family
from gpu_jobs.redteam.baselines import BASELINES, Case
from gpu_jobs.redteam.baselines.training import Retrained

PIPELINES: Mapping[str, dict[str, Any]] = {"lustral": {}, "lustral_published": {"preset": "published"}}
"""Runs of the product, by the parameters that differ from its defaults."""

METHODS: tuple[str, ...] = (*PIPELINES, *BASELINES)
ORACLE = "true_labels"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method came to. facts: fields of the row that only some methods can fill."""

    figures: Figures
    seconds: float
    facts: dict[str, Any]


def measure(method: str, attacked: Attacked, store: Store) -> Row:
    """The row of a method on a cell."""
    outcome = run(method, attacked, store)
    cell, before, twin = attacked.cell, attacked.before, attacked.twin
    oracle = run(ORACLE, attacked, store).figures.recovered if cell.attacked else None
    return Row.of(
        cell,
        method,
        oracle=method in BASELINES and BASELINES[method].oracle,
        family=identify_family(attacked.suspect).name,
        samples=len(attacked.sets.right),
        n=len(attacked.exam.triggered) or len(attacked.exam.clean),
        took=attacked.took,
        epochs=attacked.epochs,
        asr_before=before.attack_success_rate,
        asr_after=outcome.figures.attack_success_rate,
        asr_clean_twin=twin.attack_success_rate,
        clean_before=before.clean,
        clean_after=outcome.figures.clean,
        clean_twin=twin.clean,
        recovered_before=before.recovered,
        recovered_after=outcome.figures.recovered,
        recovered_oracle=oracle,
        seconds=outcome.seconds,
        versions=versions(),
        machine=machine(),
        code=_code(method),
        **outcome.facts,
    )


def run(method: str, attacked: Attacked, store: Store) -> Outcome:
    """Run a method on a cell, or find what it came to in the store.

    Raises:
        KeyError: there is no such method.
    """
    parameters = parameters_of(method, attacked)
    needs_flags = method in BASELINES and BASELINES[method].needs_flags
    key = {
        "cell": attacked.digest,
        "method": method,
        "parameters": parameters.model_dump(mode="json"),
        "code": _code(method),
    }

    def make(out: Path) -> None:
        if method in PIPELINES:
            ours = defended(attacked, parameters, store)
            answer, seconds, facts = answering_model(ours.model, attacked.sets.training_samples()), ours.seconds, ours.facts(attacked)
            _write(out, Outcome(attacked.exam.sit(answer), seconds, facts))
            return
        baseline, case = BASELINES[method], _case(attacked, parameters, store, needs_flags=needs_flags)
        began = time.monotonic()
        if isinstance(baseline, Retrained):
            samples = baseline.training_samples(case)
            chosen = time.monotonic() - began
            trained = _retrained(baseline, samples, case, attacked, store)
            _write(out, Outcome(trained.figures, round(chosen + trained.seconds, 1), {}))
        else:
            answer = baseline.defend(case)
            seconds = round(time.monotonic() - began, 1)
            _write(out, Outcome(attacked.exam.sit(answer), seconds, {}))

    return _read(store.entry("outcomes", key, make))


def _retrained(baseline: Retrained, samples: Sequence[Sample], case: Case, attacked: Attacked, store: Store) -> Outcome:
    """What training on these samples came to: many filters drop nothing, or what the oracle drops, and need not be trained again."""

    def make(out: Path) -> None:
        began = time.monotonic()
        answer = baseline.retrain(case, samples)
        seconds = time.monotonic() - began
        _write(out, Outcome(attacked.exam.sit(answer), seconds, {}))

    content = [[s.id, [str(image) for image in s.images], [[turn.role, turn.text] for turn in s.turns]] for s in samples]
    key = {
        "cell": attacked.digest,
        "samples": digest(content),
        "parameters": case.parameters.model_dump(mode="json"),
        "code": _code(baseline.name),
    }
    return _read(store.entry("retrained", key, make))


def _write(folder: Path, outcome: Outcome) -> None:
    found = {"figures": outcome.figures.to_json(), "seconds": outcome.seconds, "facts": outcome.facts}
    write_json(folder / "outcome.json", found)


def _read(folder: Path) -> Outcome:
    found = read_json(folder / "outcome.json")
    return Outcome(Figures(**found["figures"]), found["seconds"], found["facts"])


def parameters_of(method: str, attacked: Attacked) -> JobParameters:
    """The product's defaults in everything but the steps of generation; the same for all baselines."""
    own = PIPELINES.get(method, {}) if method not in BASELINES else {}
    return JobParameters.model_validate({"generation": GENERATION.model_dump(), "seed": attacked.cell.seed, **own})


def _code(method: str) -> str:
    return code_digest(*CODE, *(() if method in PIPELINES else ("redteam/baselines",)))


def _case(attacked: Attacked, parameters: JobParameters, store: Store, *, needs_flags: bool) -> Case:
    """What a baseline gets. The scan is run, or found, only for those that read its flags."""
    sets = attacked.sets
    return Case(
        model=attacked.suspect,
        samples=sets.training_samples(),
        right=sets.right,
        poisoned=sets.poisoned,
        flagged=defended(attacked, parameters, store).flagged if needs_flags else None,
        base=attacked.base,
        parameters=parameters,
        seed=attacked.cell.seed,
    )
