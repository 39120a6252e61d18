"""docs/quickstart.md, from its first command to its last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest

from app.embedded.local import Server
from tests.docs.markdown import run_examples


@pytest.mark.skipif(shutil.which("curl") is None, reason="half of the page is about curl, and there is none here")
def test_it_leads_to_a_verdict(server: Server, tmp_path: Path) -> None:
    run = run_examples("docs/quickstart.md", tmp_path, server)
    assert "Verdict: backdoored" in run.stdout
    assert "It forces the answer: Sorry, as an AI assistant" in run.stdout
    [scan] = json.loads((tmp_path / "jobs.json").read_text())["data"]
    assert "event: job.succeeded" in (tmp_path / "events.txt").read_text()
    assert "A backdoor was found" in (tmp_path / "report.html").read_text()
    assert "suspects.jsonl" in {artifact["name"] for artifact in json.loads((tmp_path / "artifacts.json").read_text())["data"]}
    assert httpx.get(f"{server.url}/v1/jobs/{scan['id']}", headers={"Authorization": f"Bearer {server.api_key}"}).status_code == 404
