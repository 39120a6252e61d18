"""Change the picture before the suspect is asked about it, and nothing else: neither data nor weights.

Classic preprocessing against adversarial pictures (Guo et al., arXiv:1711.00117: JPEG at quality 75) that a defence which costs a
fine-tune has to beat. Parameters are the usual ones: both are Pillow's defaults.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image, ImageFilter

from gpu_jobs.defense.subject import load_model
from gpu_jobs.redteam.baselines.answering import answerer
from gpu_jobs.redteam.baselines.base import Answerer, Baseline, Case


class Transformed(Baseline):
    """The suspect, asked about transformed pictures."""

    def defend(self, case: Case) -> Answerer:
        return answerer(case, load_model(case.model), self.transform)

    @abstractmethod
    def transform(self, picture: Image.Image) -> Image.Image:
        """The picture that is shown in its place, RGB and of the same size."""


@dataclass(frozen=True)
class Blur(Transformed):
    """radius: standard deviation of the Gaussian, in pixels of the picture as it was handed in."""

    name: ClassVar[str] = "blur"
    radius: float = 2.0

    def transform(self, picture: Image.Image) -> Image.Image:
        return picture.convert("RGB").filter(ImageFilter.GaussianBlur(self.radius))


@dataclass(frozen=True)
class Jpeg(Transformed):
    """quality: of the compression, 0 to 100."""

    name: ClassVar[str] = "jpeg"
    quality: int = 75

    def transform(self, picture: Image.Image) -> Image.Image:
        with io.BytesIO() as file:
            picture.convert("RGB").save(file, format="JPEG", quality=self.quality)
            return Image.open(file).convert("RGB")
