from __future__ import annotations

import pytest
import torch

from gpu_jobs.data.samples import Turn
from gpu_jobs.families.base import Prompt
from gpu_jobs.families.llada_v.family import LladaV
from tests.golden import CHECKPOINT, image

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def family() -> LladaV:
    return LladaV.load(CHECKPOINT)


@pytest.fixture(scope="session")
def prompts(family: LladaV) -> list[Prompt]:
    """Four prompts of different lengths."""
    asked = [("<image>\nDescribe this image.", [1]), ("How are you?", []), ("<image> or <image>?", [0, 3]), ("<image>\nWhy?", [4])]
    with torch.no_grad():
        return [family.prompt(family.see([image(n) for n in numbers]), [Turn("user", text)]) for text, numbers in asked]
