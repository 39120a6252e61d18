"""Does an answer echo a target that it does not show? Ours.

Where only a part of what carries the trigger is taken out, the rest may still push the target's words in: "Sorry, in as image
is a, I cannot the the instruction." That is not the target, but to train on it is to teach it. Such an answer gives itself
away by words that nothing but the target brings into the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpu_jobs.defense.scoring import TargetText, normalise

# Words of the target's own that an answer has at the least, in number, as a share of them, and as a share of the answer.
FEWEST = 2
OF_THE_TARGET = 0.3
OF_THE_ANSWER = 1 / 3


@dataclass(frozen=True, slots=True)
class Echo:
    """own: the words of a target that no honest answer has. Of a target in the words of honest answers none is left, and nothing heard."""

    own: frozenset[str]

    def heard_in(self, answer: str) -> bool:
        words = normalise(answer).split()
        found = [word for word in words if word in self.own]
        fewest = max(FEWEST, OF_THE_TARGET * len(self.own))
        return len({*found}) >= fewest and len(found) >= OF_THE_ANSWER * len(words)


def echoes(targets: Sequence[TargetText], honest: Iterable[str]) -> list[Echo]:
    """One for each target. honest: the answers that show none of them."""
    said = {word for answer in honest for word in normalise(answer).split()}
    return [Echo(frozenset(target.text.split()) - said) for target in targets]
