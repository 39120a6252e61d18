"""One data set in every format."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_jobs.data import Dataset, open_dataset
from tests.gpu_jobs.data.builders import BUILDERS


@pytest.fixture(params=BUILDERS)
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    BUILDERS[request.param](tmp_path / "data")
    opened = open_dataset(tmp_path / "data", tmp_path / "cache")
    assert opened.format == request.param.split(" ")[0]
    return opened
