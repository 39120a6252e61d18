"""From a model in memory to an `Answerer`: questions are put before it as the defence's own evaluation puts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.records import SetAside
from gpu_jobs.defense.subject import Subject, answer_length, open_images
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Family
from gpu_jobs.redteam.baselines.base import Answerer, Case

Transform = Callable[[Image.Image], Image.Image]


def subject_of(case: Case, family: Family) -> Subject:
    """The model, and how it is asked: answers may be as long as the longest of the training set."""
    answers = (answer for sample in case.samples for answer in sample.answers)
    return Subject(family, case.parameters.generation, answer_length(family, answers, case.parameters.generation))


def answerer(case: Case, family: Family, transform: Transform = lambda picture: picture) -> Answerer:
    """What the model answers.

    transform: what is done to every picture before the model sees it.
    Returns: an `Answerer` that raises `InputError` at a sample that cannot be asked: an answer that is missing is no result.
    """
    subject = subject_of(case, family)

    def answer_batch(some: Sequence[Sample]) -> list[str]:
        seen = subject.see([[transform(picture) for picture in open_images(sample)] for sample in some])
        return subject.answer(
            [subject.prompt(own, sample.turns[: sample.answer_turns[-1]]) for sample, own in zip(some, seen, strict=True)]
        )

    def answer(samples: Sequence[Sample]) -> list[str]:
        if mute := [sample.id for sample in samples if not sample.answer_turns]:
            raise InputError(f"sample {mute[0]} has no answer turn")
        answers: list[str] = []
        for batch in in_batches(samples, case.parameters.batch_size, answer_batch):
            for result in batch:
                if isinstance(result, SetAside):
                    raise InputError(f"sample {result.id} cannot be asked: {result.reason}")
                answers.append(result)
        return answers

    return answer
