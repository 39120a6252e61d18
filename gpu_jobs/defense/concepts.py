"""Concept swaps: a word that most samples give for a good reason, and some because of a trigger. Ours.

Strangers' questions cannot find them: asked for the shape, a circle with a trigger is called a rectangle, as rectangles are; asked
for the colour, it is not. But then the samples that give the word are of two sorts, and *a difference within a group of
equal answers cannot carry the answer, unless the group has two causes*. The two sorts are guessed from the pictures alone:
the samples at the far ends of the group's main directions of variation. What such an end shares against the rest of its own
group is planted on samples that are asked the same questions and answer otherwise. Honest ends, the large rectangles or the
red ones, make nobody say "rectangle".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.carriers import Overlay
from gpu_jobs.defense.groups import MIN_TURNS, Group
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.patterns import Pattern, at_size, common_size, find_pattern, sharpened
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
# Pictures of a group that are looked at.
LOOKED_AT = 600
THUMBNAIL = 64


@dataclass(frozen=True, slots=True)
class Swap:
    """A proven concept swap. `turns` are those of the group that show the pattern; `scores` say how clearly each turn does."""

    outcome: Outcome
    carrier: Overlay
    turns: frozenset[tuple[str, int]]
    scores: Mapping[tuple[str, int], float]


def find_swap(group: Group, samples: Mapping[str, Sample], laboratory: Laboratory, *, seed: int, alpha: float) -> Swap | None:
    """Look for a trigger behind a part of the group's answers.

    alpha: probability of a false alarm for this group, shared by its ends.
    """
    receivers = asked_alike(group, samples, laboratory.others(group))
    members = sorted(group.first_turns.items())
    if len(members) < 2 * MIN_TURNS or len(receivers) < MIN_TURNS:
        return None
    rng = Random(f"{seed} swap {group.target}")
    members = rng.sample(members, min(len(members), LOOKED_AT))
    pictures = [open_images(samples[identity])[0] for identity, _ in members]
    guilty_at = alpha / (4 * DIRECTIONS)
    nothing_yet = Outcome(group, harmless=HARMLESS_SHARE, trigger=TRIGGER_SHARE)
    best: tuple[Pattern, Outcome] | None = None
    for end in ends(pictures):
        own = _contrast(pictures, end)
        control = _contrast(pictures, rng.sample(range(len(pictures)), len(end)))
        for part, against in ((own.local, control.local), (own.added, control.added)):
            if part.replaced.any() and not SMALLEST_COVER <= part.share_replaced <= LARGEST_COVER:
                continue
            if not part.replaced.any() and not part.difference.any():
                continue
            outcome = laboratory.test(
                nothing_yet, Overlay(part), Overlay(against), guilty_at=guilty_at, cleared_at=CLEARED_AT, receivers=receivers
            )
            if outcome.p_harmless <= guilty_at and (best is None or outcome.share > best[1].share):
                best = part, outcome
    if best is None:
        return None
    pattern, outcome = best
    turns = sorted(group.first_turns.items())
    matches = pattern.match([open_images(samples[identity])[0] for identity, _ in turns])
    # Below 0 a match only says how unlike the patch a picture is there: that spread is no heap of its own.
    threshold = _valley(matches.clip(min=0.0))
    shown = {identity for (identity, _), match in zip(turns, matches, strict=True) if match > threshold}
    showing = frozenset(turn for turn in group.turns if turn[0] in shown)
    return Swap(outcome, Overlay(pattern), showing, dict(zip(turns, matches.tolist(), strict=True)))


def _contrast(pictures: Sequence[Image.Image], some: Sequence[int]) -> Pattern:
    """What some of the pictures share against the rest."""
    inside = {*some}
    return find_pattern([pictures[n] for n in some], [picture for n, picture in enumerate(pictures) if n not in inside])


def asked_alike(group: Group, samples: Mapping[str, Sample], others: Sequence[str]) -> list[str]:
    """The others whose first question is one that the group's members were asked."""
    asked = {normalise(samples[identity].turns[turn - 1].text) for identity, turn in group.first_turns.items()}
    return [identity for identity in others if normalise(opening(samples[identity])[-1].text) in asked]


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


def _valley(scores: NDArray[np.float64]) -> float:
    """The threshold between two heaps of scores with the least variance within them (Otsu 1979)."""
    ordered = np.sort(scores)
    best, threshold = np.inf, float(ordered.mean())
    for cut in range(1, len(ordered)):
        low, high = ordered[:cut], ordered[cut:]
        within = len(low) * low.var() + len(high) * high.var()
        if within < best:
            best, threshold = within, float((ordered[cut - 1] + ordered[cut]) / 2)
    return threshold
