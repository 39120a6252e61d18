"""What the benchmark compares the defence with: one interface for every rival, control and oracle (docs/method.md).

A baseline gets a suspect model with the set that it was tuned on, and gives back something that answers questions. So defences
that change the data, the weights or the picture that is asked about are all judged by the same two numbers: attack success and
right answers on triggered pictures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample

Answerer = Callable[[Sequence[Sample]], list[str]]
"""Answers to the last answer turn of each sample; the turns before it stand as they are given."""


@dataclass(frozen=True)
class Case:
    """A suspect, its training set, and what an oracle may know about them.

    model: the suspect's checkpoint folder.
    samples: the set that it was tuned on, poisoned samples among them.
    right: the right answers of each sample by its id, one for each answer turn. Oracles alone read this and the next two.
    poisoned: ids of the poisoned samples.
    base: checkpoint folder of the model before the attack.
    flagged: ids that our own scan flagged; None where no scan ran.
    parameters: how answers are generated, tokens are hidden and models are fine-tuned, the same for every baseline.
    seed: of everything random.
    """

    model: Path
    samples: tuple[Sample, ...]
    right: Mapping[str, tuple[str, ...]]
    poisoned: frozenset[str]
    flagged: frozenset[str] | None
    base: Path
    parameters: JobParameters
    seed: int


class Baseline(ABC):
    """One way to defend.

    name: its key in the registry.
    oracle: it reads the truth, so it is a bound and not a rival.
    needs_flags: it reads `Case.flagged`.
    """

    name: ClassVar[str]
    oracle: ClassVar[bool] = False
    needs_flags: ClassVar[bool] = False

    @abstractmethod
    def defend(self, case: Case) -> Answerer:
        """Do the work once; what comes back may be asked as often as one likes.

        Raises:
            InputError: nothing is left to train on, or flags are needed and there are none.
        """
