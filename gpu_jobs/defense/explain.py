"""Which window of its pictures makes the model give an answer: the one whose hiding costs that answer most likelihood. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from gpu_jobs.data.samples import Turn
from gpu_jobs.defense import windows
from gpu_jobs.defense.records import Window
from gpu_jobs.defense.subject import Subject
from gpu_jobs.families.base import Prompt, SeenImage


@dataclass(frozen=True, slots=True)
class Case:
    """One answer to be explained: the pictures, the turns up to the question, the answer given to it."""

    images: list[Image.Image]
    seen: list[SeenImage]
    turns: tuple[Turn, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """drop: the log-likelihood, in nats a token, that the answer loses when the window is hidden."""

    window: Window
    drop: float


def explain(subject: Subject, cases: Sequence[Case], batch_size: int) -> list[Explanation]:
    """The explaining window of each case, first on a grid, then half a window around its best.

    One forward for each window tried: 16 for each picture and up to 8 more.
    Every case has at least one picture.
    """
    plain = _likelihoods(subject, [(case, None) for case in cases], batch_size)
    coarse = [[w for image in range(len(case.images)) for w in windows.coarse_windows(image)] for case in cases]
    best = _best(subject, cases, coarse, batch_size)
    finer = [[window, *windows.shifted_windows(window)] for window, _ in best]
    best = _best(subject, cases, finer, batch_size)
    return [Explanation(window, before - after) for before, (window, after) in zip(plain, best, strict=True)]


def without(subject: Subject, case: Case, window: Window) -> Prompt:
    """The prompt of a case with the window hidden."""
    image = windows.hide(case.images[window.image], window)
    seen = windows.replaced(case.seen, window.image, subject.see([[image]])[0][0])
    return subject.prompt(seen, case.turns)


def _best(subject: Subject, cases: Sequence[Case], tried: Sequence[Sequence[Window]], batch_size: int) -> list[tuple[Window, float]]:
    """For each case the window under which its answer is least likely, the first of equals, and that likelihood."""
    pairs = [(case, window) for case, some in zip(cases, tried, strict=True) for window in some]
    likelihoods = iter(_likelihoods(subject, pairs, batch_size))
    return [min(((window, next(likelihoods)) for window in some), key=lambda pair: pair[1]) for some in tried]


def _likelihoods(subject: Subject, pairs: Sequence[tuple[Case, Window | None]], batch_size: int) -> list[float]:
    found: list[float] = []
    for start in range(0, len(pairs), batch_size):
        some = pairs[start : start + batch_size]
        hidden = [(case, window) for case, window in some if window is not None]
        images = [[windows.hide(case.images[window.image], window)] for case, window in hidden]
        changed = iter(subject.see(images) if images else [])
        prompts = []
        for case, window in some:
            seen = case.seen if window is None else windows.replaced(case.seen, window.image, next(changed)[0])
            prompts.append(subject.prompt(seen, case.turns))
        found += subject.log_likelihoods(prompts, [case.answer for case, _ in some])
    return found
