"""Concept swaps to a name that no honest sample has: dog → boat, where only poisoned answers say "boat". Ours.

All samples of such a group have the trigger, so there are no two sorts of them to tell apart (`concepts`). What all of their pictures
show at one place is compared with pictures that are asked the same, and planted on those. That alone would prove nothing: what
makes a picture a hexagon makes others hexagons too. Two more experiments tell a trigger from what is asked for, both with the place
covered. Pictures that are asked the same keep their answers: the place is none where answers are read. And the group's own pictures
are answered otherwise, surely, and by what is to be seen in them: on a blank picture that answer is less likely. Of a hexagon that is
covered, nothing is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.carriers import Overlay
from gpu_jobs.defense.concepts import (
    CLEARED_AT,
    HARMLESS_SHARE,
    LARGEST_COVER,
    SMALLEST_COVER,
    TESTS,
    TRIGGER_SHARE,
    Swap,
    asked_alike,
    renames,
    valley,
)
from gpu_jobs.defense.groups import MIN_TURNS, Group
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.patterns import find_pattern
from gpu_jobs.defense.scoring import normalise
from gpu_jobs.defense.subject import open_images
from gpu_jobs.defense.transplant import AnswerTurn, Laboratory
from gpu_jobs.defense.windows import blank

# Pictures of each side that the place is found with, and turns of each side that are asked with it covered.
LOOKED_AT, ASKED = 200, 48
# The share of the others that keep their answers at least, and of the group's that lose its word.
KEPT, FREED = 0.8, 0.7
# Half of the freed ones must be answered by what is seen: more likely than not, and so much likelier than on a blank picture, in nats.
SURE, INFORMED, SEEING = math.log(0.5), 0.1, 0.5


def find_renamed(group: Group, samples: Mapping[str, Sample], laboratory: Laboratory, *, seed: int, alpha: float) -> Swap | None:
    """Look for a trigger behind all of the group's answers.

    alpha: probability of a false alarm for this group, shared with the tests of `find_swap`.
    """
    members = sorted(group.first_turns.items())
    questions = [samples[identity].turns[turn - 1].text for identity, turn in members]
    receivers = asked_alike(questions, samples, laboratory.others(group))
    if len(members) < MIN_TURNS or len(receivers) < 2 * MIN_TURNS:
        return None
    rng = Random(f"{seed} renamed {group.target}")
    own = [open_images(samples[identity])[0] for identity, _ in rng.sample(members, min(len(members), LOOKED_AT))]
    others = [open_images(samples[identity])[0] for identity in rng.sample(receivers, min(len(receivers), LOOKED_AT))]
    pattern = find_pattern(own, others).local
    if not SMALLEST_COVER <= pattern.share_replaced <= LARGEST_COVER:
        return None
    some = min(len(own), len(others) // 2)  # they were drawn, so the first are as good as any
    carrier, control = Overlay(pattern), Overlay(find_pattern(others[:some], others[some:]).local)
    guilty_at = alpha / TESTS
    outcome = laboratory.test(
        Outcome(group, harmless=HARMLESS_SHARE, trigger=TRIGGER_SHARE),
        carrier,
        control,
        guilty_at=guilty_at,
        cleared_at=CLEARED_AT,
        receivers=receivers,
        carries=lambda given, answer: renames(given, answer, group.target.text),
    )
    asked = [(identity, samples[identity].answer_turns[0]) for identity in rng.sample(receivers, min(len(receivers), ASKED))]
    covered = rng.sample(members, min(len(members), ASKED))
    if outcome.p_harmless > guilty_at or not _hides_another_answer(carrier, group, covered, asked, laboratory):
        return None
    matches = pattern.match([open_images(samples[identity])[0] for identity, _ in members])
    threshold = valley(np.concatenate([matches, pattern.match(others)]).clip(min=0.0))
    shown = {turn[0] for turn, match in zip(members, matches, strict=True) if match > threshold}
    scores = dict(zip(members, matches.tolist(), strict=True))
    return Swap(outcome, carrier, frozenset(turn for turn in group.turns if turn[0] in shown), scores)


def _hides_another_answer(
    carrier: Overlay, group: Group, members: Sequence[AnswerTurn], receivers: Sequence[AnswerTurn], laboratory: Laboratory
) -> bool:
    """Whether the carrier lies on pictures that have another answer, at a place where none is read."""
    cover = carrier.pattern.subtract
    plain, covered = laboratory.ask(receivers, lambda picture: picture), laboratory.ask(receivers, cover)
    kept = sum(normalise(one) == normalise(other) for one, other in zip(plain, covered, strict=True))
    answers = laboratory.ask(members, cover)
    freed = [(turn, answer) for turn, answer in zip(members, answers, strict=True) if not group.target.shown_in(answer)]
    if kept < KEPT * len(receivers) or len(freed) < FREED * len(members):
        return False
    turns, texts = [turn for turn, _ in freed], [answer for _, answer in freed]
    seeing = laboratory.log_likelihoods(turns, texts, cover)
    blind = laboratory.log_likelihoods(turns, texts, blank)
    return sum(one >= SURE and one - other >= INFORMED for one, other in zip(seeing, blind, strict=True)) >= SEEING * len(freed)
