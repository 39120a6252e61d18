"""Answer a shard of the suspects again. What fails is set aside: nothing keeps an answer because something failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpu_jobs.data import open_dataset
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.batches import save_batches
from gpu_jobs.defense.carriers import Carrier, load_carriers, put_together
from gpu_jobs.defense.echoes import echoes
from gpu_jobs.defense.reanswer import Physician
from gpu_jobs.defense.records import Suspect
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.defense.subject import open_inputs
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs


def purify(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Answer every `shards`-th suspect again, or every `shards`-th sample with `reanswer="all"`.

    Saved after each batch; a later attempt goes on behind what was saved.
    Returns: `samples` in the shard, how many were `reanswered`, how many were `set_aside`.
    """
    if inputs.dataset is None:
        raise InputError("this step needs a data set")
    everybody, copy = open_dataset(inputs.dataset, inputs.scratch).samples, forgetful_model(inputs)
    samples = to_answer(inputs, everybody, guilty_turns(inputs))[inputs.shard :: inputs.shards]
    carriers = carriers_of_suspects(inputs)
    # The copy has forgotten more than its target, so it is asked only about those for whom nothing better is known.
    left = [sample for sample in samples if copy is not None and sample.id in carriers and carriers[sample.id] is None]
    others = [sample for sample in samples if sample not in left]
    for model, some in [(model, some) for model, some in ((None, others), (copy, left)) if some] or [(None, samples)]:
        _answer(inputs, reporter, model, some)
    reanswered = sum(1 for _ in records.read_rows(inputs.outputs / records.ANSWERS))
    return {"samples": len(samples), "reanswered": reanswered, "set_aside": len(samples) - reanswered}


def _answer(inputs: StepInputs, reporter: Reporter, copy: Path | None, samples: Sequence[Sample]) -> None:
    """Have the model handed in answer some samples, or its forgetful copy. A function of its own: two models may not fit."""
    dataset, subject = open_inputs(inputs, model=copy)
    guilty, targets = guilty_turns(inputs), known_targets(inputs.results["verdict"][0])
    heard = echoes(targets, honest_answers(dataset.samples, guilty))
    carriers = carriers_of_suspects(inputs)
    physician = Physician(subject, guilty, targets, heard, carriers, inputs.parameters, forgetful=copy is not None)
    save_batches(inputs, reporter, samples, records.ANSWERS, physician.reanswer)


def forgetful_model(inputs: StepInputs) -> Path | None:
    """The copy that has forgotten the target, where the step before made one."""
    forgot = inputs.results.get("forget")
    return inputs.previous["forget"][0] / records.FORGETFUL if forgot and forgot[0]["forgetful"] else None


def known_carriers(inputs: StepInputs) -> list[Carrier]:
    """What the verdict proved to carry triggers."""
    return load_carriers(inputs.previous["verdict"][0] / records.CARRIERS)


def carriers_of_suspects(inputs: StepInputs) -> dict[str, Carrier | None]:
    """For each suspect what carries its trigger, or all of its triggers; None where that is not known."""
    carriers = known_carriers(inputs)
    rows = map(Suspect.from_json, records.read_rows(inputs.previous["verdict"][0] / records.SUSPECTS))
    return {suspect.id: put_together([carriers[number] for number in suspect.carriers]) for suspect in rows}


def guilty_turns(inputs: StepInputs) -> dict[str, list[int]]:
    """For each suspect the answer turns that show the target."""
    return {row["id"]: row["turns"] for row in records.read_rows(inputs.previous["verdict"][0] / records.SUSPECTS)}


def honest_answers(samples: list[Sample], guilty: dict[str, list[int]]) -> Iterator[str]:
    """The answers as given, but for those that show the target."""
    return (s.turns[turn].text for s in samples for turn in s.answer_turns if turn not in guilty.get(s.id, ()))


def known_targets(verdict: dict[str, Any]) -> list[TargetText]:
    """The texts that a verdict found guilty, the target first."""
    return [TargetText(**text) for text in verdict["evidence"]["guilty"]]


def to_answer(inputs: StepInputs, samples: list[Sample], guilty: dict[str, list[int]]) -> list[Sample]:
    """The samples that must not keep their answers. Samples that were set aside before stay so."""
    gone = {row["id"] for row in records.read_rows(inputs.previous["verdict"][0] / records.SET_ASIDE)}
    everything = inputs.parameters.purify.reanswer == "all"
    return [s for s in samples if s.id not in gone and s.answer_turns and (s.id in guilty or (everything and s.images))]
