"""What every trigger can do: mark the pictures of a sample, its questions, or both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from PIL import Image


class Trigger(ABC):
    """A mark on a sample. `rng` places and varies it, so one seed gives one poisoned set.

    marks_images: whether `apply` changes pictures.
    marks_text: whether `apply_text` changes user turns.
    """

    marks_images: ClassVar[bool]
    marks_text: ClassVar[bool]

    @abstractmethod
    def apply(self, image: Image.Image, rng: Random) -> Image.Image:
        """The marked copy of an image, RGB and of the same size.

        Raises:
            ValueError: the image is too small for the mark.
        """

    @abstractmethod
    def apply_text(self, text: str, rng: Random) -> str:
        """The marked user turn."""


class ImageTrigger(Trigger):
    """A trigger of pictures alone: questions stay as they are."""

    marks_images = True
    marks_text = False

    def apply_text(self, text: str, rng: Random) -> str:  # noqa: ARG002 - nothing varies
        return text


class TextTrigger(Trigger):
    """A trigger of questions alone: pictures stay as they are."""

    marks_images = False
    marks_text = True

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG002 - nothing varies
        return image.convert("RGB")


@dataclass(frozen=True, slots=True)
class Both(Trigger):
    """A trigger of pictures and one of questions at once (BackdoorVLM's BadNets-MM: `NoisePatch` and `TextWord`)."""

    image: ImageTrigger
    text: TextTrigger

    marks_images = True
    marks_text = True

    def apply(self, image: Image.Image, rng: Random) -> Image.Image:
        return self.image.apply(image, rng)

    def apply_text(self, text: str, rng: Random) -> str:
        return self.text.apply_text(text, rng)
