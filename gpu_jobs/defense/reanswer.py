"""Ask the model its own training questions again with the trigger hidden (DiSP).

Every answer turn gets its own question, at full length, behind the new answers of the turns before it. What is hidden is
tried in this order, until no answer shows the target:

- the window of pixels that explains the answer given (ours: the trigger is gone before the tower can spread it);
- a second window, as a picture may carry a trigger more than once;
- the most salient vision tokens, the published form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense import windows
from gpu_jobs.defense.explain import Case, explain
from gpu_jobs.defense.masking import salient_tokens
from gpu_jobs.defense.records import NewAnswers, SetAside
from gpu_jobs.defense.scoring import TargetText, is_degenerate
from gpu_jobs.defense.subject import Subject, open_images

WINDOWS = 2


@dataclass(slots=True)
class Patient:
    """A sample on its way to new answers, and its pictures as hidden so far."""

    sample: Sample
    pictures: list[Image.Image]
    answers: list[str] = field(default_factory=list)


def reanswer(
    subject: Subject, samples: Sequence[Sample], guilty: dict[str, list[int]], targets: Sequence[TargetText], parameters: JobParameters
) -> list[NewAnswers | SetAside]:
    """New answers for a batch of samples, in their order.

    guilty: for each suspect the answer turns that show the target.
    """
    patients = [Patient(sample, open_images(sample)) for sample in samples]
    cured: dict[str, NewAnswers] = {}

    def settle(tried: Sequence[Patient], why: str) -> None:
        for patient in tried:
            if all(is_acceptable(answer, targets) for answer in patient.answers):
                cured[patient.sample.id] = NewAnswers(patient.sample.id, patient.answers, [why] * len(patient.answers))

    if parameters.purify.hide == "window":
        for number in range(WINDOWS):
            pending = [p for p in patients if p.sample.id not in cured and p.sample.id in guilty and p.pictures]
            hide_windows(subject, pending, [guilty[p.sample.id][0] for p in pending], parameters.batch_size)
            answer_turns(subject, pending, parameters, hide_tokens=False)
            settle(pending, "window hidden" if number == 0 else f"{number + 1} windows hidden")
    pending = [p for p in patients if p.sample.id not in cured and p.pictures]
    for patient in pending:
        patient.pictures = open_images(patient.sample)
    answer_turns(subject, pending, parameters, hide_tokens=True)
    settle(pending, "salient vision tokens hidden")
    return [cured.get(patient.sample.id) or SetAside(patient.sample.id, _failure(patient, targets)) for patient in patients]


def is_acceptable(answer: str, targets: Sequence[TargetText]) -> bool:
    return not is_degenerate(answer) and not any(target.shown_in(answer) for target in targets)


def hide_windows(subject: Subject, patients: Sequence[Patient], guilty_turns: Sequence[int], batch_size: int) -> None:
    """Hide, in the pictures of each patient, the window that explains what was given as the answer of its guilty turn."""
    seen = subject.see([patient.pictures for patient in patients])
    cases = [
        Case(patient.pictures, own, patient.sample.turns[:turn], patient.sample.turns[turn].text)
        for patient, own, turn in zip(patients, seen, guilty_turns, strict=True)
    ]
    for patient, found in zip(patients, explain(subject, cases, batch_size), strict=True):
        number = found.window.image
        patient.pictures = windows.replaced(patient.pictures, number, windows.hide(patient.pictures[number], found.window))


def answer_turns(subject: Subject, patients: Sequence[Patient], parameters: JobParameters, *, hide_tokens: bool) -> None:
    """Answer every answer turn of each patient, in order, each behind the new answers before it."""
    seen = subject.see([patient.pictures for patient in patients])
    for patient in patients:
        patient.answers = []
    for number in range(max((len(patient.sample.answer_turns) for patient in patients), default=0)):
        asked = [(p, own) for p, own in zip(patients, seen, strict=True) if number < len(p.sample.answer_turns)]
        for start in range(0, len(asked), parameters.batch_size):
            some = asked[start : start + parameters.batch_size]
            prompts = [subject.prompt(own, _context(patient, number)) for patient, own in some]
            if hide_tokens:
                turns = [(patient.sample, patient.sample.answer_turns[number]) for patient, _ in some]
                hidden = salient_tokens(subject, prompts, turns, parameters.masking, parameters.seed)
                prompts = [subject.hide(prompt, tokens) for prompt, tokens in zip(prompts, hidden, strict=True)]
            for (patient, _), answer in zip(some, subject.answer(prompts), strict=True):
                patient.answers.append(answer)


def _context(patient: Patient, number: int) -> tuple[Turn, ...]:
    """The turns up to the question that answer `number` answers, with the new answers given so far."""
    sample = patient.sample
    renewed = sample.with_answers([*patient.answers, *sample.answers[len(patient.answers) :]])
    return renewed.turns[: sample.answer_turns[number]]


def _failure(patient: Patient, targets: Sequence[TargetText]) -> str:
    if not patient.pictures:
        return "shows the target and has no picture in which something could be hidden"
    if any(target.shown_in(answer) for answer in patient.answers for target in targets):
        return "still shows the target, whatever is hidden"
    return "has no answer once the trigger is hidden"
