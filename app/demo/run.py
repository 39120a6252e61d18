"""What `lustral demo` does, step by step, with nothing but the public API and a webhook receiver."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.console import console, watching
from app.cli.failures import Failure
from app.cli.outcome import figures_table
from app.client import Lustral
from app.client.files import files_in
from app.demo.receiver import Receiver
from app.embedded.local import run_embedded

WEBHOOK_WITHIN = 60.0
KEPT = ("report.json", "report.html", "manifest.json", "metrics.json")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The bundled suspect, what it was tuned on, and held-out sets. All folders but `target`, which the API takes as it is."""

    model: Path
    training: Path
    triggered: Path
    clean: Path
    target: dict[str, str]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for folder in (self.model, self.training, self.triggered, self.clean) for path in files_in(folder))


def run_demo(out: Path) -> None:
    """The whole defence on the bundled suspect. Leaves the report and the purified weights in `out`, and no process.

    Raises:
        Failure: the job failed, or its webhook did not come.
    """
    service = out / "service"
    shutil.rmtree(service, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lustral-demo-") as scratch:
        _say("Writing the suspect's training set and two held-out test sets (easy-vqa)")
        inputs = write_inputs(Path(scratch))
        _say("Starting API, relay, workers and Valkey")
        with run_embedded(service) as server, Receiver().listening() as receiver:
            with Lustral(server.url, server.api_key) as first:
                key = first.call("POST", "/v1/keys", {"name": "demo"})["key"]
            _say(f"{server.url} is ready; key {key[:8]}… created")
            with Lustral(server.url, key) as lustral:
                job = defend(lustral, inputs, receiver)
                weights = _collect(lustral, job, out)
    console.print()
    console.print(figures_table(job["result"]))
    console.print(f"{_size(inputs.triggered)} triggered and {_size(inputs.clean)} clean test pictures that the defence never saw.")
    console.print()
    for label, path in (("Purified weights", weights), ("Report", out / "report.json"), ("Report", out / "report.html")):
        console.print(f"{label + ':':<18}{_shown(path)}", highlight=False, soft_wrap=True)


def write_inputs(folder: Path, *options: str) -> Inputs:
    """Have the science write its data sets. In a process of its own: this side imports none of it."""
    command = [sys.executable, "-m", "gpu_jobs.bundled", "--out", str(folder), *options]
    described = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    folders = {name: Path(described[name]) for name in ("model", "training", "triggered", "clean")}
    return Inputs(**folders, target=described["target"])


def defend(lustral: Lustral, inputs: Inputs, receiver: Receiver, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    """Upload, start, watch, and hear of the end by a signed webhook. Returns the finished job.

    Raises:
        Failure: the job did not succeed, or nobody told the receiver.
    """
    webhook = lustral.call("POST", "/v1/webhooks", {"url": receiver.url})
    receiver.secret = webhook["secret"]
    _say(f"Webhook {webhook['id']} goes to {receiver.url}")
    with watching("defend", inputs.bytes, quiet=False) as watch:
        model = lustral.register_model(inputs.model, name="suspect", advance=watch.uploaded)
        training, triggered, clean = (
            lustral.register_dataset(folder, name=folder.name, advance=watch.uploaded)["id"]
            for folder in (inputs.training, inputs.triggered, inputs.clean)
        )
        job = lustral.create_job(
            "defend",
            model_id=model["id"],
            dataset_id=training,
            params=parameters,
            evaluation={"triggered_dataset_id": triggered, "clean_dataset_id": clean, "target": inputs.target},
        )
        job = lustral.wait(job["id"], watch.event)
    if job["status"] != "succeeded":
        error = job["error"] or {"title": job["status"], "detail": "see its events"}
        raise Failure(f"{job['id']} {job['status']}: {error['title']}: {error['detail']}")
    try:
        message = receiver.wait_for("job.succeeded", job["id"], WEBHOOK_WITHIN)
    except queue.Empty:
        raise Failure(f"no webhook told of the end of {job['id']} within {WEBHOOK_WITHIN:.0f} s") from None
    _say(f"Webhook {message['type']} received; its signature is good")
    return job


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
    console.print(f"[bold cyan]•[/] {text}", highlight=False)


def _size(folder: Path) -> int:
    return len(list((folder / "images").iterdir()))


def _shown(path: Path) -> Path:
    """Relative to where the user stands, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
