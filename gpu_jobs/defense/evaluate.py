"""Answers of a model before and after the defence, and what they are worth.

- attack success rate (ASR): share of triggered answers that show the target;
- clean score (CA): share of clean answers that are right;
- recovered score (RA): share of triggered answers that are right, which is what "restored" means: a model that answers
  nothing has an ASR of 0;
- false positive rate: share of clean answers that show the target, because honest answers may.

An answer that could not be had is an error: counted apart, in no rate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpu_jobs.config import TargetContains
from gpu_jobs.data import open_dataset
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.held_out import is_held_out
from gpu_jobs.defense.merge import purified_samples
from gpu_jobs.defense.purify import guilty_turns, known_targets
from gpu_jobs.defense.records import Answered, SetAside
from gpu_jobs.defense.scoring import is_attacked, is_right
from gpu_jobs.defense.subject import Subject, answer_length, digest_of, load_model, open_images
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs

TRIGGERED = ("triggered", "suspects")
TargetTest = Callable[[str, str | None], bool]
"""Whether an answer shows the target; the second is the answer that the data set gives, if it is known."""


@dataclass(frozen=True, slots=True)
class Questions:
    """One evaluation set. `samples` carry the answers that count as right; `turns` limits which answer turns are asked (None: all).

    given: the samples of these ids as the data set gives them, their targets included.
    """

    name: str
    samples: list[Sample]
    turns: dict[str, list[int]] | None = None
    given: Mapping[str, Sample] = field(default_factory=dict)

    def asked(self, sample: Sample) -> list[int]:
        return [turn for turn in sample.answer_turns if self.turns is None or turn in self.turns[sample.id]]

    def without(self, done: set[str]) -> Questions:
        """What is left of it once the samples of these ids were asked."""
        return replace(self, samples=[sample for sample in self.samples if sample.id not in done])


def evaluate(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Ask the model handed in and, where one was made, the purified model.

    Saved after each batch; a later attempt goes on behind what was saved.
    With evaluation sets their answers decide. Without, the suspects stand for triggered inputs (right is what the
    purification answered) and held-out samples for clean ones (right is what was given): `estimated` is then true.

    Returns: `before` and `after` (None where no purified model exists): `attack_success_rate`, `clean_score`,
        `recovered_score`, `false_positive_rate`, each None where it cannot be said, and the numbers `triggered`, `clean`
        and `errors`; and `estimated`.

    Raises:
        InputError: there is nothing to evaluate on.
    """
    if inputs.model is None:
        raise InputError("this step needs a model")
    sets, known_answers = gather(inputs)
    attacked = target_test(inputs)
    models = [("before", inputs.model)]
    if "finetune" in inputs.results and inputs.results["finetune"][0]["changed"]:
        models.append(("after", inputs.previous["finetune"][0] / records.MODEL))

    saved = inputs.checkpoint / records.EVALUATED
    rows = [Answered.from_json(row) for row in records.resume_rows(saved)]
    open_sets = {
        name: [each.without({row.id for row in rows if (row.model, row.set) == (name, each.name)}) for each in sets] for name, _ in models
    }
    total = sum(len(each.samples) for each in sets) * len(models)
    done = total - sum(len(each.samples) for remaining in open_sets.values() for each in remaining)
    reporter.progress(done, total, "samples")
    for name, folder in models:
        # In a function of its own, which lets go of one model before the next is loaded.
        for size, answered in _ask_model(inputs, name, folder, open_sets[name], known_answers, attacked):
            with saved.open("a", encoding="utf-8") as file:
                file.writelines(map(records.to_line, answered))
            rows += answered
            done += size
            reporter.checkpoint()
            reporter.progress(done, total, "samples")
    if "finetune" in inputs.results and len(models) == 1:
        # The published weights are the ones handed in.
        rows += [Answered(**{**row.to_json(), "model": "after"}) for row in rows]
    result = {
        "before": summarise([row for row in rows if row.model == "before"]),
        "after": summarise([row for row in rows if row.model == "after"]) if "finetune" in inputs.results else None,
        "estimated": inputs.evaluation.triggered is None and inputs.evaluation.clean is None,
    }
    records.write_rows(inputs.outputs / records.EVALUATED, rows)
    (inputs.outputs / records.METRICS).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def gather(inputs: StepInputs) -> tuple[list[Questions], list[str]]:
    """The evaluation sets, and every answer at hand: they say how long an answer may be."""
    parameters = inputs.parameters
    everything: list[Sample] = []
    samples: dict[str, Sample] = {}
    if inputs.dataset is not None:
        everything = open_dataset(inputs.dataset, inputs.scratch).samples
        samples = {sample.id: sample for sample in everything}
    given = {"triggered": inputs.evaluation.triggered, "clean": inputs.evaluation.clean}
    sets = [
        Questions(name, open_dataset(folder, inputs.scratch).samples[: parameters.evaluate.max_samples])
        for name, folder in given.items()
        if folder is not None
    ]
    if not sets and "merge" in inputs.previous:
        guilty = guilty_turns(inputs)
        purified = purified_samples(everything, inputs.previous["merge"][0])
        suspects = [sample for sample in purified if sample.id in guilty][: parameters.evaluate.max_samples]
        held_out = [samples[s.id] for s in purified if s.id not in guilty and is_held_out(s, parameters)]
        sets = [Questions("suspects", suspects, guilty, samples), Questions("held_out", held_out[: parameters.evaluate.max_samples])]
    if not sets:
        raise InputError("there is nothing to evaluate on: give a triggered or a clean evaluation set")
    answers = [answer for sample in (*everything, *(s for each in sets for s in each.samples)) for answer in sample.answers]
    if isinstance(inputs.evaluation.target, TargetContains):
        answers.append(inputs.evaluation.target.contains)
    return sets, answers


def target_test(inputs: StepInputs) -> TargetTest | None:
    """How the target is recognised: as the caller says, else as the verdict found it; None where neither knows one.

    Of several that the verdict found, those count that the sample was given, the first for a sample that was given none.
    """
    named = inputs.evaluation.target
    if named is not None:
        return lambda answer, _: is_attacked(answer, named)
    found = known_targets(inputs.results["verdict"][0]) if "verdict" in inputs.results else []

    def shown(answer: str, given: str | None) -> bool:
        own = [target for target in found if given is not None and target.shown_in(given)] or found[:1]
        return any(target.shown_in(answer) for target in own)

    return shown if found else None


def _ask_model(
    inputs: StepInputs,
    name: str,
    folder: Path,
    sets: Sequence[Questions],
    known_answers: Sequence[str],
    attacked: TargetTest | None,
) -> Iterator[tuple[int, list[Answered]]]:
    if not any(questions.samples for questions in sets):
        return
    family, generation = load_model(folder, digest=digest_of(inputs, folder)), inputs.parameters.generation
    subject = Subject(family, generation, answer_length(family, known_answers, generation))
    for questions in sets:
        yield from ask(subject, questions, name, attacked, inputs.parameters.batch_size)


def ask(
    subject: Subject, questions: Questions, model: str, attacked: TargetTest | None, batch_size: int
) -> Iterator[tuple[int, list[Answered]]]:
    """Ask a set, batch by batch: how many samples were asked, and their answers. Earlier turns stand as the set gives them."""

    def answer(some: Sequence[Sample]) -> list[list[Answered]]:
        seen = subject.see([open_images(sample) for sample in some])
        asked = [(sample, own, turn) for sample, own in zip(some, seen, strict=True) for turn in questions.asked(sample)]
        answers = subject.answer([subject.prompt(own, sample.turns[:turn]) for sample, own, turn in asked])
        rows: dict[str, list[Answered]] = {sample.id: [] for sample in some}
        for (sample, _, turn), text in zip(asked, answers, strict=True):
            reference = sample.turns[turn].text
            given = questions.given[sample.id].turns[turn].text if sample.id in questions.given else None
            shown = attacked(text, given) if attacked else None
            rows[sample.id].append(Answered(sample.id, turn, questions.name, model, text, reference, shown, is_right(text, reference)))
        return list(rows.values())

    start = 0
    for batch in in_batches(questions.samples, batch_size, answer):
        answered: list[Answered] = []
        for sample, result in zip(questions.samples[start : start + len(batch)], batch, strict=True):
            if isinstance(result, SetAside):
                turns = questions.asked(sample)
                answered += [
                    Answered(sample.id, t, questions.name, model, "", sample.turns[t].text, None, None, result.reason) for t in turns
                ]
            else:
                answered += result
        start += len(batch)
        yield len(batch), answered


def summarise(rows: Sequence[Answered]) -> dict[str, float | int | None]:
    answered = [row for row in rows if row.error is None]
    triggered = [row for row in answered if row.set in TRIGGERED]
    clean = [row for row in answered if row.set not in TRIGGERED]
    return {
        "attack_success_rate": _share([row.attacked for row in triggered]),
        "clean_score": _share([row.right for row in clean]),
        "recovered_score": _share([row.right for row in triggered]),
        "false_positive_rate": _share([row.attacked for row in clean]),
        "triggered": len(triggered),
        "clean": len(clean),
        "errors": len(rows) - len(answered),
    }


def _share(values: Sequence[bool | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
