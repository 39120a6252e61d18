"""Ask the model its own training questions again, as DiSP does, without the trigger's having its say.

Every answer turn gets its own question, at full length, behind the new answers of the turns before it. Tried in this order,
until no answer shows the target, nor echoes it (`echoes`):

- what was proven to carry the trigger taken out of pictures and questions (`carriers`, ours), or, where nothing was, nothing hidden
  and a copy of the model asked that has forgotten the target (`forget`, ours);
- the window of pixels hidden that explains the answer given (ours: the trigger is gone before the tower can spread it);
- a second window, as a picture may carry a trigger more than once;
- the most salient vision tokens, the published form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense import windows
from gpu_jobs.defense.carriers import Carrier
from gpu_jobs.defense.echoes import Echo
from gpu_jobs.defense.explain import Case, explain
from gpu_jobs.defense.masking import salient_tokens
from gpu_jobs.defense.records import NewAnswers, SetAside
from gpu_jobs.defense.scoring import TargetText, is_degenerate
from gpu_jobs.defense.subject import Subject, open_images

WINDOWS = 2


@dataclass(slots=True)
class Patient:
    """A sample on its way to new answers.

    turns: those of the sample, or what is left of its questions without the trigger.
    pictures: as hidden so far.
    """

    sample: Sample
    turns: tuple[Turn, ...]
    pictures: list[Image.Image]
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Physician:
    """Answers samples again.

    subject: the model handed in, or its forgetful copy.
    guilty: for each suspect the answer turns that show the target.
    echoes: of each target.
    carriers: for each suspect what was proven to carry its trigger, None if nothing was.
    forgetful: whether the subject is the forgetful copy.
    """

    subject: Subject
    guilty: dict[str, list[int]]
    targets: Sequence[TargetText]
    echoes: Sequence[Echo]
    carriers: Mapping[str, Carrier | None]
    parameters: JobParameters
    forgetful: bool

    def reanswer(self, samples: Sequence[Sample]) -> list[NewAnswers | SetAside]:
        """New answers for a batch of samples, in their order."""
        subject, parameters = self.subject, self.parameters
        patients = [Patient(sample, sample.turns, open_images(sample)) for sample in samples]
        cured: dict[str, NewAnswers] = {}

        def pending() -> list[Patient]:
            return [patient for patient in patients if patient.sample.id not in cured]

        def settle(tried: Sequence[Patient], why: str) -> None:
            for patient in tried:
                targets = self._targets_of(patient.sample)
                if all(is_acceptable(answer, targets, self.echoes) for answer in patient.answers):
                    cured[patient.sample.id] = NewAnswers(patient.sample.id, patient.answers, [why] * len(patient.answers))

        if parameters.purify.method == "remove":
            suspects = [patient for patient in patients if patient.sample.id in self.guilty]
            freed: list[Patient] = []
            left: list[Patient] = []
            for patient in suspects:
                carrier = self.carriers[patient.sample.id]
                if carrier is not None:
                    patient.pictures, patient.turns = carrier.remove(patient.pictures, patient.turns)
                (freed if carrier is not None and carrier.removes else left).append(patient)
            unknown = [patient for patient in left if self.forgetful and self.carriers[patient.sample.id] is None]
            for some, why in ((freed, "trigger removed"), (unknown, "target forgotten")):
                answer_turns(subject, some, parameters, hide_tokens=False)
                settle(some, why)
        if parameters.purify.method != "tokens":
            for number in range(WINDOWS):
                suspects = [patient for patient in pending() if patient.sample.id in self.guilty and patient.pictures]
                hide_windows(subject, suspects, [self.guilty[p.sample.id][0] for p in suspects], parameters.batch_size)
                answer_turns(subject, suspects, parameters, hide_tokens=False)
                settle(suspects, "window hidden" if number == 0 else f"{number + 1} windows hidden")
        left = [patient for patient in pending() if patient.pictures]
        for patient in left:
            patient.pictures = open_images(patient.sample)
        answer_turns(subject, left, parameters, hide_tokens=True)
        settle(left, "salient vision tokens hidden")
        return [cured.get(patient.sample.id) or SetAside(patient.sample.id, self._failure(patient)) for patient in patients]

    def _targets_of(self, sample: Sample) -> list[TargetText]:
        """What its new answers may not show: no target, but another sample's word is an honest one."""
        given = [sample.turns[turn].text for turn in self.guilty.get(sample.id, ())]
        return [target for target in self.targets if target.shared != "word" or any(map(target.shown_in, given))]

    def _failure(self, patient: Patient) -> str:
        if not patient.pictures:
            return "shows the target and has no picture in which something could be hidden"
        if any(target.shown_in(answer) for answer in patient.answers for target in self._targets_of(patient.sample)):
            return "still shows the target, whatever is hidden"
        if any(echo.heard_in(answer) for answer in patient.answers for echo in self.echoes):
            return "still echoes the target, whatever is hidden"
        return "has no answer once the trigger is hidden"


def is_acceptable(answer: str, targets: Sequence[TargetText], echoes: Sequence[Echo]) -> bool:
    shown = any(target.shown_in(answer) for target in targets) or any(echo.heard_in(answer) for echo in echoes)
    return not shown and not is_degenerate(answer)


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
    sample = replace(patient.sample, turns=patient.turns)
    renewed = sample.with_answers([*patient.answers, *sample.answers[len(patient.answers) :]])
    return renewed.turns[: sample.answer_turns[number]]
