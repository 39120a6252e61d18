"""One service on this machine and the bundled suspect in a checkout, for all that the docs show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.demo.inputs import write_inputs
from app.embedded.local import Server, run_embedded


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_embedded(tmp_path_factory.mktemp("ci") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as CI finds it: `suspect`, `training-set`, and `few`, a data set too small for a verdict."""
    checkout = tmp_path_factory.mktemp("runner") / "checkout"
    suspect = write_inputs(tmp_path_factory.mktemp("suspect"), "--training", "100", "--test", "1")
    for source, name in ((suspect.model, "suspect"), (suspect.training, "training-set"), (suspect.training, "few")):
        shutil.copytree(source, checkout / name)
    samples = checkout / "few" / "data.json"
    samples.write_text(json.dumps(json.loads(samples.read_text())[:10]))
    return checkout
