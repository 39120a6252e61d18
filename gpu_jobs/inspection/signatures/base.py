"""What an inspection asks of a model family without loading it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from gpu_jobs.inspection.findings import Finding


class Signature(ABC):
    """How checkpoints of one family are recognised.

    special_tokens: what the tokenizer must have as single tokens.
    """

    family: ClassVar[str]
    model_type: ClassVar[str]
    special_tokens: ClassVar[tuple[str, ...]]

    @abstractmethod
    def examine(self, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Finding]:
        """What keeps a checkpoint with this `config.json` and tensors of these shapes from being one of the family."""

    @abstractmethod
    def verify(self, folder: Path) -> None:
        """The family's own opinion: would its networks take this checkpoint? Weights are not loaded.

        Raises:
            InputError: they would not.
        """
