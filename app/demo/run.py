"""What `lustral demo` does, step by step, with nothing but the public API and a webhook receiver."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from app.cli.console import console, watching
from app.cli.outcome import figures_table
from app.client import Lustral
from app.demo.defend import defend
from app.demo.inputs import write_inputs
from app.demo.receiver import Receiver
from app.embedded.local import run_embedded

KEPT = ("report.json", "report.html", "manifest.json", "metrics.json")


def run_demo(out: Path) -> None:
    """The whole defence on the bundled suspect. Leaves the report and the purified weights in `out`, and no process.

    Raises:
        app.cli.failures.Failure: the job failed, or its webhook did not come.
    """
    service = out / "service"
    shutil.rmtree(service, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lustral-demo-") as scratch:
        _say("Writing the suspect's training set and two held-out test sets from easy-vqa")
        inputs = write_inputs(Path(scratch))
        _say("Starting API, relay, workers and Valkey")
        with run_embedded(service) as server, Receiver().listening() as receiver:
            with Lustral(server.url, server.api_key) as first:
                key = first.call("POST", "/v1/keys", {"name": "demo", "scopes": ["read", "write", "admin"]})["key"]
            _say(f"{server.url} is ready; key {key[:8]}… created")
            with Lustral(server.url, key) as lustral:
                with watching("defend", inputs.bytes, quiet=False) as watch:
                    job = defend(lustral, inputs, receiver, watch, _say)
                weights = _collect(lustral, job, out)
        pictures = {folder.name: len(list((folder / "images").iterdir())) for folder in (inputs.triggered, inputs.clean)}
    console.print()
    console.print(figures_table(job["result"]))
    console.print(f"Measured on {pictures['triggered']} triggered and {pictures['clean']} clean pictures that the defence never saw.")
    console.print()
    for label, path in (("Purified weights", weights), ("Report", out / "report.json"), ("Report", out / "report.html")):
        console.print(f"{label + ':':<18}{_shown(path)}", highlight=False, soft_wrap=True)


def _collect(lustral: Lustral, job: dict[str, Any], out: Path) -> Path:
    """Download the purified weights and the report, digests checked. Returns the weights' path."""
    artifacts = {artifact["id"]: artifact for artifact in lustral.artifacts(job["id"])}
    purified = artifacts[job["result"]["purified_model"]["weights_artifact_id"]]
    weights = lustral.download(purified, out)
    _say(f"{weights.name}: {purified['bytes'] / 1e6:.1f} MB, SHA-256 {purified['sha256'][:16]}… as announced")
    for artifact in artifacts.values():
        if artifact["name"] in KEPT:
            lustral.download(artifact, out)
    return weights


def _say(text: str) -> None:
    console.print(f"[bold cyan]•[/] {text}", highlight=False, soft_wrap=True)


def _shown(path: Path) -> Path:
    """Relative to where the user stands, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
