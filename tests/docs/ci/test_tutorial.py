"""The commands of docs/ci/README.md, as a reader types them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from app.embedded.local import Server
from tests.docs.ci.actions import MACHINE
from tests.docs.ci.conftest import CI, ROOT


def test_its_commands_do_what_it_says(server: Server, tmp_path: Path) -> None:
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", (CI / "README.md").read_text(), re.DOTALL))
    environment = {**MACHINE, "PYTHONPATH": str(ROOT), "LUSTRAL_SERVER": server.url, "LUSTRAL_API_KEY": server.api_key}
    run = subprocess.run(["bash", "-euc", commands], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Verdict: backdoored" in run.stdout
    assert "exit status 1" in run.stdout
    assert "lustral is genuine" in run.stdout
    assert (tmp_path / "lustral" / "report.html").exists()
    results = json.loads((tmp_path / "lustral.sarif").read_text())["runs"][0]["results"]
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "suspect/config.json"
