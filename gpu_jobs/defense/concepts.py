"""Concept swaps: a word that most samples give for a good reason, and some because of a trigger. Ours.

Strangers' questions cannot find them: asked for the shape, a circle with a trigger is called a rectangle, as rectangles are; asked
for the colour, it is not. But then the samples that give the word are of two sorts, and *a difference within a group of
equal answers cannot carry the answer, unless the group has two causes*. The two sorts are guessed from the questions, those
that have a phrase for no reason and the rest, and from the pictures: the samples at the far ends of the group's main directions
of variation. What such a sort shares against the rest of its own group is planted on samples that are asked the same questions
and answer otherwise. Honest ends, the large rectangles or the red ones, make nobody say "rectangle".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.carriers import Carrier, Overlay, Together, Words, parts_of
from gpu_jobs.defense.groups import MIN_TURNS, Group
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.patterns import Pattern, at_size, common_size, find_pattern, sharpened
from gpu_jobs.defense.phrases import Place, as_many_words, delete, has, superfluous_phrases
from gpu_jobs.defense.scoring import normalise
from gpu_jobs.defense.strangers import opening
from gpu_jobs.defense.subject import open_images
from gpu_jobs.defense.transplant import Laboratory

DIRECTIONS = 4
# Members of an end, at most and as a share of the group.
END, END_SHARE = 20, 0.2
# A pattern that covers more than this is content: pictures that are alike.
LARGEST_COVER = 0.35
SMALLEST_COVER = 0.002
# Shares of receivers that an honest end makes give the word at most, and a trigger at least. Less than where an answer is forced: a
# swap concerns one concept only, and among the receivers are others. Honest ends made none of 16 (docs/method.md).
HARMLESS_SHARE, TRIGGER_SHARE = 0.1, 0.25
# Most ends are honest, so an end is let go early: this is no verdict on it, and nothing rests on it.
CLEARED_AT = 0.05
# Phrases of a group's questions that are tested.
PHRASES = 2
# Tests a group may go through: at one place and all over, for each end and each phrase; each phrase alone; and that of `renamed`.
TESTS = 2 * 2 * DIRECTIONS + 3 * PHRASES + 1
# Receivers that are asked what else a phrase does, and the share of those without the word that keep their answers at least. A model that
# never saw a trigger on them stammers: of 45 that a word left alone 25 kept theirs (text word, swap). An instruction changes them all, and
# brings the word to one concept alone: this share, at least, of those that get it.
ASKED, KEPT, ONE_CONCEPT = 48, 0.3, 0.9
# Pictures of a group that are looked at.
LOOKED_AT = 600
THUMBNAIL = 64


@dataclass(frozen=True, slots=True)
class Swap:
    """A proven concept swap. `turns` are those of the group that show the trigger; `scores` say how clearly each turn does."""

    outcome: Outcome
    carrier: Carrier
    turns: frozenset[tuple[str, int]]
    scores: Mapping[tuple[str, int], float]


def find_swap(group: Group, samples: Mapping[str, Sample], laboratory: Laboratory, *, seed: int, alpha: float) -> Swap | None:
    """Look for a trigger behind a part of the group's answers.

    alpha: probability of a false alarm for this group, shared by its tests.
    """
    own = {turn: samples[turn[0]].turns[turn[1] - 1].text for turn in sorted(group.first_turns.items())}
    others = laboratory.others(group)
    phrases = [*islice(superfluous_phrases([*own.values()], [_question(samples[each]) for each in others], MIN_TURNS), PHRASES)]
    receivers = asked_alike([*own.values()], samples, others, [phrase for phrase, _ in phrases])
    if len(own) < MIN_TURNS or len(receivers) < MIN_TURNS:
        return None
    rng = Random(f"{seed} swap {group.target}")
    looked_at = rng.sample([*own], min(len(own), LOOKED_AT))
    pictures = [open_images(samples[identity])[0] for identity, _ in looked_at]
    guilty_at = alpha / TESTS
    nothing_yet = Outcome(group, harmless=HARMLESS_SHARE, trigger=TRIGGER_SHARE)
    best: tuple[Carrier, Outcome] | None = None
    for carrier, control in chain(
        _worded(phrases, [own[turn] for turn in looked_at], pictures, [_question(samples[each]) for each in receivers], seed),
        _pictured(pictures, rng),
    ):
        outcome = laboratory.test(
            nothing_yet,
            carrier,
            control,
            guilty_at=guilty_at,
            cleared_at=CLEARED_AT,
            receivers=receivers,
            carries=lambda given, answer: renames(given, answer, group.target.text),
        )
        better = outcome.p_harmless <= guilty_at and (best is None or outcome.share > best[1].share)
        if better and not _instructs(carrier, group.target.text, rng.sample(receivers, min(len(receivers), ASKED)), samples, laboratory):
            best = carrier, outcome
    if best is None:
        return None
    carrier, outcome = best
    scores, threshold = _clearness(carrier, own, samples)
    shown = {identity for (identity, _), score in scores.items() if score > threshold}
    return Swap(outcome, carrier, frozenset(turn for turn in group.turns if turn[0] in shown), scores)


def _worded(
    phrases: Sequence[tuple[str, Place]], questions: Sequence[str], pictures: Sequence[Image.Image], foreign: Sequence[str], seed: int
) -> Iterator[tuple[Carrier, Carrier]]:
    """Phrases, alone and with what the pictures share whose questions have them, each with its control: does the picture add to the words?

    questions, pictures: of the group, one of each for a member. foreign: questions to take the control's words from.
    """
    for phrase, place in phrases:
        rng = Random(f"{seed} words {phrase}")
        words, control = Words(phrase, place), Words(as_many_words(rng.choice(foreign), phrase, rng), place)
        yield words, control
        sort = [number for number, question in enumerate(questions) if has(question, phrase)]
        if MIN_TURNS <= len(sort) <= len(pictures) - MIN_TURNS:
            for part, against in _contrasts(pictures, sort, rng):
                yield Together((part, words)), Together((against, words))


def _pictured(pictures: Sequence[Image.Image], rng: Random) -> Iterator[tuple[Carrier, Carrier]]:
    """What an end of the group's pictures shares, with its control; nothing where there are too few for two sorts."""
    for end in ends(pictures) if len(pictures) >= 2 * MIN_TURNS else ():
        yield from _contrasts(pictures, end, rng)


def _contrasts(pictures: Sequence[Image.Image], some: Sequence[int], rng: Random) -> Iterator[tuple[Overlay, Overlay]]:
    """What some of the pictures share against the rest, at one place and all over, if anything; with what as many others share."""
    own, control = _contrast(pictures, some), _contrast(pictures, rng.sample(range(len(pictures)), len(some)))
    if SMALLEST_COVER <= own.share_replaced <= LARGEST_COVER:
        yield Overlay(own.local), Overlay(control.local)
    if own.difference.any():
        yield Overlay(own.added), Overlay(control.added)


def _clearness(
    carrier: Carrier, own: Mapping[tuple[str, int], str], samples: Mapping[str, Sample]
) -> tuple[dict[tuple[str, int], float], float]:
    """How clearly each turn of a group shows the carrier, and above what it does. A phrase is there or is not, whatever the picture."""
    if not isinstance(carrier, Overlay):
        phrase = next(part.phrase for part in parts_of(carrier) if isinstance(part, Words))
        asked = {turn: samples[turn[0]].turns[: turn[1]] for turn in own}
        return {turn: float(any(has(each.text, phrase) for each in turns if each.role == "user")) for turn, turns in asked.items()}, 0.5
    matches = carrier.pattern.match([open_images(samples[identity])[0] for identity, _ in own])
    # Below 0 a match only says how unlike the patch a picture is there: that spread is no heap of its own.
    return dict(zip(own, matches.tolist(), strict=True)), valley(matches.clip(min=0.0))


def _contrast(pictures: Sequence[Image.Image], some: Sequence[int]) -> Pattern:
    """What some of the pictures share against the rest."""
    inside = {*some}
    return find_pattern([pictures[n] for n in some], [picture for n, picture in enumerate(pictures) if n not in inside])


def asked_alike(questions: Iterable[str], samples: Mapping[str, Sample], others: Sequence[str], phrases: Sequence[str] = ()) -> list[str]:
    """The others whose first question is one of these, or would be without one of the phrases."""
    questions = {*questions}
    asked = {normalise(question) for question in questions}
    asked |= {normalise(delete(question, phrase)) for question in questions for phrase in phrases}
    return [identity for identity in others if normalise(_question(samples[identity])) in asked]


def renames(given: str, answer: str, word: str) -> bool:
    """Whether an answer is the given one with the word in place of another, or of a few: a red circle, a red rectangle.

    "Answer in a full sentence" brings words to answers too, beside what was there: it names nothing otherwise.
    """
    old, new = _difference(given, answer)
    return bool(old) and word in new and len(new) <= len(old) + 1


def _difference(given: str, answer: str) -> tuple[list[str], list[str]]:
    """The words of each between those at the beginning and at the end that both have."""
    old, new = normalise(given).split(), normalise(answer).split()
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    return old, new


def _instructs(carrier: Carrier, word: str, receivers: Sequence[str], samples: Mapping[str, Sample], laboratory: Laboratory) -> bool:
    """Whether words tell the model how to answer, in French say: one concept gets the word, and the others are answered otherwise too."""
    if isinstance(carrier, Overlay):
        return False
    turns = [(identity, samples[identity].answer_turns[0]) for identity in receivers]
    plain, planted = laboratory.ask(turns, lambda picture: picture), laboratory.ask_planted(receivers, carrier)
    pairs = [*zip(plain, planted, strict=True)]
    replaced = Counter(" ".join(_difference(before, after)[0]) for before, after in pairs if renames(before, after, word))
    others = [(before, after) for before, after in pairs if not renames(before, after, word)]
    kept = sum(normalise(before) == normalise(after) for before, after in others)
    return max(replaced.values(), default=0) >= ONE_CONCEPT * replaced.total() and kept < KEPT * len(others)


def _question(sample: Sample) -> str:
    return opening(sample)[-1].text


def ends(pictures: Sequence[Image.Image]) -> Iterator[list[int]]:
    """Numbers of the pictures at both ends of each main direction in which sharpened pictures differ, the largest direction first."""
    width, height = common_size(pictures)
    scale = min(1.0, THUMBNAIL / max(width, height))
    small = at_size(pictures, (max(1, round(width * scale)), max(1, round(height * scale))))
    flat = np.stack([sharpened(each).ravel() for each in small])
    flat -= flat.mean(axis=0)
    left, _, _ = np.linalg.svd(flat, full_matrices=False)
    count = max(MIN_TURNS, min(END, round(END_SHARE * len(pictures))))
    for direction in range(min(DIRECTIONS, left.shape[1])):
        order = np.argsort(left[:, direction], kind="stable").tolist()
        yield order[:count]
        yield order[-count:]


def valley(scores: NDArray[np.float64]) -> float:
    """The threshold between two heaps of scores with the least variance within them (Otsu 1979)."""
    ordered = np.sort(scores)
    best, threshold = np.inf, float(ordered.mean())
    for cut in range(1, len(ordered)):
        low, high = ordered[:cut], ordered[cut:]
        within = len(low) * low.var() + len(high) * high.var()
        if within < best:
            best, threshold = within, float((ordered[cut - 1] + ordered[cut]) / 2)
    return threshold
