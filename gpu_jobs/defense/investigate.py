"""What is behind a group of answers that the strangers' questions did not clear, or whose questions share words for no reason. Ours.

Carriers are made of the group's samples and put to the test one after the other: what its pictures share at one place, what
they share all over, the windows that explain its answers, the words that its questions share, and pictures with words: where
neither does it alone, or where words do it but not always.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from PIL import Image

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.carriers import Carrier, Overlay, Together, Words
from gpu_jobs.defense.groups import Group
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.patterns import Pattern, find_pattern
from gpu_jobs.defense.phrases import Place, as_many_words, superfluous_phrase
from gpu_jobs.defense.strangers import opening
from gpu_jobs.defense.subject import open_images
from gpu_jobs.defense.transplant import Laboratory

# A carrier that works this often need not be bettered.
GOOD_ENOUGH = 0.95
# Pictures of each side that a pattern is made of.
LOOKED_AT = 200
# What covers more of the picture than this is content: pictures that are alike.
SMALLEST_COVER, LARGEST_COVER = 0.002, 0.4
# Tests a group may go through; its false alarms are shared out among them.
TESTS = 7


@dataclass(frozen=True, slots=True)
class Finding:
    """A group after its experiments.

    planted: the test of the carrier that works best; None where there was none to test.
    carrier: what was proven to carry the answer; None if nothing was.
    """

    group: Group
    asked: Outcome
    planted: Outcome | None = None
    carrier: Carrier | None = None


class Investigation:
    """Tests carriers of groups in a laboratory."""

    def __init__(self, laboratory: Laboratory, samples: Mapping[str, Sample], *, seed: int) -> None:
        self._laboratory = laboratory
        self._samples = samples
        self._seed = seed

    def phrase(self, group: Group) -> tuple[str, Place] | None:
        """The words that the group's questions share for no reason."""
        own = [self._samples[identity].turns[turn - 1].text for identity, turn in group.first_turns.items()]
        others = [opening(self._samples[identity])[-1].text for identity in self._laboratory.others(group)]
        return superfluous_phrase(own, others)

    def look_into(self, asked: Outcome, phrase: tuple[str, Place] | None, *, forced: bool, alpha: float, cleared_at: float) -> Finding:
        """Test the carriers of a group.

        forced: whether strangers' questions left it open that its pictures force the answer: else its pictures alone need no test.
        alpha: probability of a false alarm for this group.
        """
        group, guilty_at = asked.group, alpha / TESTS
        tried: list[Finding] = []

        def best_of(carriers: Iterable[tuple[Carrier, Carrier]]) -> Finding | None:
            """The best of the proven ones; the rest is not tested once one is good enough."""
            proven: list[Finding] = []
            for carrier, control in carriers:
                outcome = self._laboratory.test(Outcome(group), carrier, control, guilty_at=guilty_at, cleared_at=cleared_at)
                tried.append(Finding(group, asked, outcome))
                if outcome.p_harmless <= guilty_at:
                    proven.append(Finding(group, asked, outcome, carrier))
                    if outcome.share >= GOOD_ENOUGH:
                        break
            return max(proven, key=_share, default=None)

        pictured = best_of(self._of_pictures(group)) if forced else None
        worded = None
        if phrase is not None:
            words, other_words = Words(*phrase), self._bystanders_words(group, *phrase)
            worded = best_of([(words, other_words)])
            if pictured is None and worded is None:
                pairs = self._of_pictures(group)
                return best_of((Together((c, words)), Together((k, other_words))) for c, k in pairs) or max(tried, key=_share)
            if pictured is None and worded is not None and _share(worded) < GOOD_ENOUGH:
                # Does a picture add to what the words do? The control has the same words, and a bystander's picture.
                added = best_of((Together((c, words)), Together((k, words))) for c, k in self._of_pictures(group))
                return worded if added is None else replace(worded, carrier=added.carrier)
        if pictured is not None and worded is not None and pictured.carrier is not None and worded.carrier is not None:
            return Finding(group, asked, pictured.planted, Together((pictured.carrier, worded.carrier)))
        return pictured or worded or max(tried, key=_share, default=Finding(group, asked))

    def _of_pictures(self, group: Group) -> Iterator[tuple[Carrier, Carrier]]:
        """Carriers of the group's pictures, each with its control, made when they are needed."""
        rng = Random(f"{self._seed} pattern {group.target}")
        others = self._laboratory.others(group)
        if not others:
            return
        pattern = self._pattern(rng, list(group.first_turns), others)
        bystanders = rng.sample(others, max(1, min(len(others) // 2, len(group.first_turns), LOOKED_AT)))
        control = self._pattern(rng, bystanders, [identity for identity in others if identity not in {*bystanders}] or others)
        if SMALLEST_COVER <= pattern.share_replaced <= LARGEST_COVER:
            yield Overlay(pattern.local), Overlay(control.local)
        pieces = self._laboratory.pieces(group)
        if pieces is not None:
            yield pieces
        yield Overlay(pattern.added), Overlay(control.added)

    def _pattern(self, rng: Random, own: Sequence[str], rest: Sequence[str]) -> Pattern:
        def pictures(identities: Sequence[str]) -> list[Image.Image]:
            chosen = rng.sample(list(identities), min(len(identities), LOOKED_AT))
            return [open_images(self._samples[identity])[0] for identity in chosen]

        return find_pattern(pictures(own), pictures(rest))

    def _bystanders_words(self, group: Group, phrase: str, place: Place) -> Words:
        """As many words, out of a bystander's question."""
        rng = Random(f"{self._seed} words {group.target}")
        question = opening(self._samples[rng.choice(self._laboratory.others(group))])[-1].text
        return Words(as_many_words(question, phrase, rng), place)


def _share(finding: Finding) -> float:
    return finding.planted.share if finding.planted is not None else 0.0
