"""What given answers have in common: the hypotheses that the verdict tests. Ours."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpu_jobs.defense.records import SampleEvidence
from gpu_jobs.defense.scoring import TargetText, normalise

# A target that is taught by fewer turns, or a smaller share of them, is not looked for.
MIN_TURNS, MIN_SHARE = 8, 0.005
# A word in more answers than this is no concept that some pictures show.
MAX_WORD_SHARE = 0.6
# Words of a beginning or an end that answers may share.
AFFIX_WORDS = range(1, 9)


@dataclass(frozen=True, slots=True)
class Group:
    """Turns, by sample id and number, whose given answers share a text: the whole answer, its beginning or its end.

    spelling: the most common spelling of the given answers.
    """

    target: TargetText
    turns: frozenset[tuple[str, int]]
    spelling: str

    @property
    def first_turns(self) -> dict[str, int]:
        """For each sample of the group, by id, its first turn that is in the group."""
        return dict(sorted(self.turns, reverse=True))


def group_answers(evidence: Sequence[SampleEvidence]) -> list[Group]:
    """Every group of examined turns that is large enough, the largest first. Of groups with the same turns, the longest text."""
    turns = [(each.id, given) for each in evidence if each.examined for given in each.given]
    members: dict[TargetText, list[tuple[str, int]]] = defaultdict(list)
    spellings: dict[TargetText, list[str]] = defaultdict(list)
    for identity, given in turns:
        for target in _shared_texts(given.text):
            members[target].append((identity, given.turn))
            spellings[target].append(given.text)
    enough = max(MIN_TURNS, math.ceil(MIN_SHARE * len(turns)))
    longest: dict[frozenset[tuple[str, int]], TargetText] = {}
    for target, some in members.items():
        if len(some) >= enough:
            known = longest.get(frozenset(some))
            longest[frozenset(some)] = target if known is None else max(known, target, key=lambda text: len(text.text))
    groups = [Group(target, some, _most_common(spellings[target])) for some, target in longest.items()]
    return sorted(groups, key=lambda group: (-len(group.turns), group.target.text, group.target.shared))


def group_words(evidence: Sequence[SampleEvidence]) -> list[Group]:
    """Every group of examined turns whose answers have a word in common, large enough but not most of them; the largest first."""
    turns = [(each.id, given) for each in evidence if each.examined for given in each.given]
    members: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for identity, given in turns:
        for word in {*normalise(given.text).split()}:
            members[word].append((identity, given.turn))
    enough, most = max(MIN_TURNS, math.ceil(MIN_SHARE * len(turns))), MAX_WORD_SHARE * len(turns)
    groups = [Group(TargetText(word, "word"), frozenset(some), word) for word, some in members.items() if enough <= len(some) <= most]
    return sorted(groups, key=lambda group: (-len(group.turns), group.target.text))


def _shared_texts(answer: str) -> list[TargetText]:
    words = normalise(answer).split()
    lengths = [count for count in AFFIX_WORDS if count < len(words)]
    texts = [TargetText(" ".join(words), "answer")]
    texts += [TargetText(" ".join(words[:count]), "beginning") for count in lengths]
    texts += [TargetText(" ".join(words[-count:]), "end") for count in lengths]
    return texts


def _most_common(texts: Iterable[str]) -> str:
    return Counter(texts).most_common(1)[0][0]
