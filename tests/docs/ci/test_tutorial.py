"""The commands of docs/ci/README.md, as a reader types them."""

from __future__ import annotations

import json
from pathlib import Path

from app.embedded.local import Server
from tests.docs.markdown import run_examples


def test_its_commands_do_what_it_says(server: Server, tmp_path: Path) -> None:
    run = run_examples("docs/ci/README.md", tmp_path, server)
    assert "Verdict: backdoored" in run.stdout
    assert "exit status 1" in run.stdout
    assert "lustral is genuine" in run.stdout
    assert (tmp_path / "lustral" / "report.html").exists()
    results = json.loads((tmp_path / "lustral.sarif").read_text())["runs"][0]["results"]
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "suspect/config.json"
