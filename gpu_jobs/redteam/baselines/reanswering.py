"""Every sample's own questions asked again, all answer turns in order, with something hidden: the half that DiSP's rivals share.

Only what is hidden differs from one baseline to the next. Nothing is flagged first: clean samples get new answers too, as in
the published form (arXiv:2602.22246).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.subject import Subject, open_images
from gpu_jobs.families.base import Family, Prompt
from gpu_jobs.redteam.baselines.answering import subject_of
from gpu_jobs.redteam.baselines.base import Case

Hiding = Callable[[Subject, Sequence[Prompt], Sequence[tuple[Sample, int]]], list[list[int]]]
"""Indices of the vision tokens to hide in each prompt, given the sample and the answer turn that each prompt is for."""


def reanswer(case: Case, family: Family, hiding: Hiding) -> list[Sample]:
    """The training set with new answers.

    Samples without a picture, in which nothing can be hidden, keep theirs. Samples that fail are left out: none keeps a
    possibly poisoned answer because something failed.
    """
    subject = subject_of(case, family)
    asked = [sample for sample in case.samples if sample.images and sample.answer_turns]
    renewed: dict[str, Sample] = {}
    for batch in in_batches(asked, case.parameters.batch_size, lambda some: _answer_again(subject, some, hiding)):
        renewed |= {result.id: result for result in batch if isinstance(result, Sample)}
    left_out = {sample.id for sample in asked} - renewed.keys()
    return [renewed.get(sample.id, sample) for sample in case.samples if sample.id not in left_out]


def _answer_again(subject: Subject, samples: Sequence[Sample], hiding: Hiding) -> list[Sample]:
    seen = subject.see([open_images(sample) for sample in samples])
    answers: list[list[str]] = [[] for _ in samples]
    for number in range(max(len(sample.answer_turns) for sample in samples)):
        asked = [place for place, sample in enumerate(samples) if number < len(sample.answer_turns)]
        turns = [(samples[place], samples[place].answer_turns[number]) for place in asked]
        prompts = [subject.prompt(seen[place], _context(samples[place], answers[place])) for place in asked]
        hidden = hiding(subject, prompts, turns)
        prompts = [subject.hide(prompt, tokens) for prompt, tokens in zip(prompts, hidden, strict=True)]
        for place, answer in zip(asked, subject.answer(prompts), strict=True):
            answers[place].append(answer)
    return [sample.with_answers(own) for sample, own in zip(samples, answers, strict=True)]


def _context(sample: Sample, answers: Sequence[str]) -> tuple[Turn, ...]:
    """The turns before the next answer, with the new answers given so far."""
    renewed = sample.with_answers([*answers, *sample.answers[len(answers) :]])
    return renewed.turns[: sample.answer_turns[len(answers)]]
