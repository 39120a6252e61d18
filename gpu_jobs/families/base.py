"""The seam between the defence and the model families. Everything in `gpu_jobs/defense` is written against it once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn

from gpu_jobs.data.samples import Turn


@dataclass(frozen=True, slots=True)
class Region:
    """The part of an image that one vision token looks at, as fractions of the image's width and height."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, eq=False)
class SeenImage:
    """An image after preprocessing and the vision tower, before the projector: what can be cached while the tower is frozen.

    `features` is the family's own layout. `regions` has one entry for each vision token this image becomes after the
    splice, in their order; row separators and padding look at nothing and have None.
    """

    features: Tensor
    layout: tuple[int, ...]
    regions: tuple[Region | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A conversation up to the answer that is to be given, as input embeddings.

    embeddings: [length, hidden]; differentiable.
    vision: [vision_tokens] int64, the positions in `embeddings` of every vision token, all images in order.
    regions: for each of those, its image's number and the region it looks at (None: a separator).
    """

    embeddings: Tensor
    vision: Tensor
    regions: tuple[tuple[int, Region | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRow:
    """A whole conversation to learn from, answers included.

    hidden: [n] int64, indices of the vision tokens (all images in order) that are shown as `Family.hide` shows them.
    """

    seen: tuple[SeenImage, ...]
    turns: tuple[Turn, ...]
    hidden: Tensor | None = None


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """The special ids that generation needs."""

    mask: int
    end_of_turn: int
    suppressed: tuple[int, ...]


class Family(ABC):
    """A loaded model of one family. `network` owns all weights; `parts` names its trainable parts."""

    name: ClassVar[str]
    network: nn.Module
    tokens: AnswerTokens

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """Read a checkpoint folder: safetensors only, allow-listed configuration, never remote code, never pickle.

        Raises:
            gpu_jobs.errors.InputError: something is missing, malformed or of another family.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write weights, configuration and tokenizer in the family's published layout."""

    @property
    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """`vision_tower`, `projector`, `language_model` (with the head and the separator vectors where they belong)."""

    @property
    @abstractmethod
    def lora_targets(self) -> list[str]:
        """Names of the language model's linear layers within `parts["language_model"]`, in PEFT's terms."""

    @abstractmethod
    def see(self, images: Sequence[Image.Image]) -> list[SeenImage]:
        """Preprocess and run the vision tower over all views of all images together. Gradients flow if they are enabled."""

    @abstractmethod
    def prompt(self, seen: Sequence[SeenImage], turns: Sequence[Turn]) -> Prompt:
        """Splice the projected vision tokens into the embedded chat template, assistant header included.

        `turns` ends with the user turn to be answered and has one `<image>` for each entry of `seen`.

        Raises:
            InputError: the numbers of images and placeholders differ.
        """

    @abstractmethod
    def hide(self, prompt: Prompt, vision_tokens: Tensor) -> Prompt:
        """The prompt with some vision tokens hidden.

        vision_tokens: [n] int64, indices into `prompt.vision`. Length and positions stay as they are.
        """

    @property
    @abstractmethod
    def hidden_embedding(self) -> Tensor:
        """[hidden] what `hide` puts in place of a vision token (the embedding of [MASK] where there is one)."""

    @abstractmethod
    def encode_answer(self, text: str) -> list[int]:
        """Token ids of an answer, closed by the end-of-turn token."""

    @abstractmethod
    def decode_answer(self, ids: Sequence[int]) -> str:
        """The text before the first end-of-turn token, special tokens dropped, stripped."""

    @abstractmethod
    def answer_logits(
        self, prompts: Sequence[Prompt], answers: Tensor, *, lengths: Sequence[int] | None = None, columns: slice = slice(None)
    ) -> Tensor:
        """One forward over prompt + answer block, head applied to the block only.

        answers: [batch, answer] int64, `tokens.mask` where unknown. Rows of different length are padded with attention
        masks, so a row's result does not depend on its neighbours.
        lengths: how many tokens of each row of `answers` are there at all; the logits behind them mean nothing.
        columns: the part of the answer whose logits are wanted; the model sees all of it.
        Returns: [batch, columns, vocab] in the network's dtype.
        """

    @abstractmethod
    def loss(self, rows: Sequence[TrainingRow], generator: torch.Generator, *, answer_length: int | None = None) -> Tensor:
        """The family's own training loss (corruption included), a scalar.

        answer_length: tokens that the last answer of each row is padded to, as the family pads answers; give what
        generation will use, or the model is asked for longer answers than it has ever seen. None: as the family's own
        training pads a batch.
        """
