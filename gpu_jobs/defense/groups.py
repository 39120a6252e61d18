"""What given answers have in common: the hypotheses that the verdict tests. Ours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from gpu_jobs.defense.records import SampleEvidence, TurnEvidence
from gpu_jobs.defense.scoring import TargetText, normalise

# A target that is taught by fewer turns cannot be told from chance.
MIN_TURNS = 8
# Words of a beginning or an end that answers may share.
AFFIX_WORDS = range(1, 9)


@dataclass(frozen=True, slots=True)
class Group:
    """Turns whose given answers share a text: the whole answer, its beginning or its end.

    spelling: the most common spelling of the given answers.
    surprise: median over the turns of what the pictures add to the log-likelihood of the given answer, in nats a token.
    """

    target: TargetText
    turns: tuple[tuple[str, TurnEvidence], ...]
    spelling: str
    surprise: float

    @property
    def owed(self) -> float:
        """What the shared words owe to the pictures, over all turns: surprise, taken as spread evenly over an answer's words."""
        shared = len(self.target.text.split())
        return sum(
            max(turn.plain - turn.blind, 0.0) * min(1.0, shared / max(len(normalise(turn.given).split()), 1)) for _, turn in self.turns
        )


def group_answers(evidence: Sequence[SampleEvidence]) -> list[Group]:
    """Every group of at least `MIN_TURNS` examined turns, the one that owes most to the pictures first.

    That order is no evidence, it only decides what is tested: an answer that a trigger forces is certain with the picture
    and absurd without it, but so is an honest answer that takes looking. Surprise alone would hide a target that is taught
    often: a model that was tuned on 15 % refusals finds them likely without a picture too.
    """
    turns = [(sample.id, turn) for sample in evidence if sample.examined for turn in sample.turns]
    members: dict[TargetText, list[tuple[str, TurnEvidence]]] = defaultdict(list)
    for identity, turn in turns:
        for target in _shared_texts(turn.given):
            members[target].append((identity, turn))
    groups = [
        Group(target, tuple(some), _most_common(turn.given for _, turn in some), median(turn.plain - turn.blind for _, turn in some))
        for target, some in members.items()
        if len(some) >= MIN_TURNS
    ]
    return sorted(_without_redundant(groups), key=lambda group: -group.owed)


def _shared_texts(answer: str) -> list[TargetText]:
    words = normalise(answer).split()
    lengths = [count for count in AFFIX_WORDS if count < len(words)]
    texts = [TargetText(" ".join(words), "answer")]
    texts += [TargetText(" ".join(words[:count]), "beginning") for count in lengths]
    texts += [TargetText(" ".join(words[-count:]), "end") for count in lengths]
    return texts


def _without_redundant(groups: Sequence[Group]) -> list[Group]:
    """Of groups with the same turns the one that says most."""
    best: dict[frozenset[tuple[str, int]], Group] = {}
    for group in groups:
        turns = frozenset((identity, turn.turn) for identity, turn in group.turns)
        known = best.get(turns)
        if known is None or len(group.target.text) > len(known.target.text):
            best[turns] = group
    return list(best.values())


def _most_common(texts: Iterable[str]) -> str:
    return Counter(texts).most_common(1)[0][0]
