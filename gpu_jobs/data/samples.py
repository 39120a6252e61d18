"""What a training set is made of: samples, their pictures and their turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `text` marks the place of each image by the literal `<image>`, as LLaVA data does."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation over zero or more images, the unit that is scanned, answered again and trained on."""

    id: str
    images: tuple[Path, ...]
    turns: tuple[Turn, ...]

    @property
    def answer_turns(self) -> tuple[int, ...]:
        """Indices into `turns` of the answers: assistant turns that some user turn precedes."""
        first_user = next((i for i, turn in enumerate(self.turns) if turn.role == "user"), len(self.turns))
        return tuple(i for i, turn in enumerate(self.turns) if turn.role == "assistant" and i > first_user)

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(self.turns[i].text for i in self.answer_turns)

    def with_answers(self, answers: Sequence[str]) -> Sample:
        """The same sample with other answers, one for each answer turn.

        Raises:
            ValueError: the number of answers differs from the number of answer turns.
        """
        if len(answers) != len(self.answer_turns):
            raise ValueError(f"sample {self.id} has {len(self.answer_turns)} answers, not {len(answers)}")
        turns = list(self.turns)
        for index, text in zip(self.answer_turns, answers, strict=True):
            turns[index] = Turn("assistant", text)
        return replace(self, turns=tuple(turns))
