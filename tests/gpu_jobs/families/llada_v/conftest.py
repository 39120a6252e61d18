from __future__ import annotations

import pytest
import torch

from gpu_jobs.families.llada_v.family import LladaV
from tests.golden import CHECKPOINT

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def official() -> LladaV:
    """The reference checkpoint, computed and prompted as the official code does."""
    return LladaV.load(CHECKPOINT, template="official", attention="eager")


@pytest.fixture(scope="session")
def family() -> LladaV:
    """The same checkpoint as a user would load it."""
    return LladaV.load(CHECKPOINT)
