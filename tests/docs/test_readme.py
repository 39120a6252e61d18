"""The walk through the API in README.md, up to the job that it starts."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from app.client import Lustral
from app.embedded.local import Server
from tests.docs.markdown import run_examples


@pytest.mark.skipif(shutil.which("curl") is None, reason="the walk is one with curl, and there is none here")
def test_its_walk_through_the_api_starts_a_defence(server: Server, checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout / "suspect", tmp_path / "suspect")
    shutil.copytree(checkout / "few", tmp_path / "training-set")
    run_examples("README.md", tmp_path, server)
    with Lustral(server.url, server.api_key) as lustral:
        job = next(lustral.pages("/v1/jobs", kind="defend"))
        lustral.cancel(job["id"])
        for noun, id in (("models", job["model_id"]), ("datasets", job["dataset_id"])):
            while (subject := lustral.call("GET", f"/v1/{noun}/{id}"))["status"] == "inspecting":
                time.sleep(0.1)
            assert subject["status"] == "ready", subject
