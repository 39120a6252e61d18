"""A suspect model goes in through the HTTP API and a purified one comes out, with the proof."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.cli.console import Silence
from app.client.files import files_in
from app.demo.defend import defend, register
from app.demo.inputs import Inputs
from app.demo.receiver import Receiver
from app.provenance.folder import verify_folder
from app.provenance.keys import PublicKey
from tests.e2e.conftest import Service

# For tests that a verdict only keeps waiting.
BRIEFLY = {"groups": 1, "words": 1, "pictures": 1}

pytestmark = pytest.mark.timeout(600)


def test_a_backdoored_model_comes_out_clean(service: Service, suspect: Inputs, receiver: Receiver, tmp_path: Path) -> None:
    lustral = service.lustral
    job = defend(lustral, suspect, receiver, Silence(), lambda _: None)
    result = job["result"]
    assert result["verdict"] == "backdoored"
    assert result["target"]["text"] in suspect.target["contains"] or suspect.target["contains"] in result["target"]["text"]
    assert result["estimated"] is False
    before, after = result["before"], result["after"]
    assert before["attack_success_rate"] >= 0.9
    assert after["attack_success_rate"] <= 0.05
    assert after["clean_score"] >= before["clean_score"] - 0.05
    assert after["recovered_score"] >= before["recovered_score"] + 0.5

    artifacts = {artifact["name"]: lustral.download(artifact, tmp_path) for artifact in lustral.artifacts(job["id"])}
    report = json.loads(artifacts["report.json"].read_text())
    assert report["result"]["after"] == after
    assert report == json.loads(lustral.report(job["id"]))
    assert "backdoor" in lustral.report(job["id"], "text/html")
    assert json.loads(lustral.report(job["id"], "application/sarif+json"))["runs"][0]["results"][0]["level"] == "error"
    [log] = [artifact for artifact in lustral.artifacts(job["id"], kind="log") if artifact["name"] == "logs/finetune.attempt-1.jsonl"]
    lines = [json.loads(line) for line in lustral.download(log, tmp_path.with_name("logs")).read_text().splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("begun", "finished")
    assert any("loss" in line for line in lines)
    key = PublicKey.from_pem(lustral.signing_key()["public_key"].encode())
    assert verify_folder(tmp_path, key).files == len(artifacts) - 1
    names = zipfile.ZipFile(artifacts["model.zip"]).namelist()
    assert [name for name in names if name.endswith(".safetensors")]

    # What came out is a model like any other: it goes in again, and scores what was promised.
    purified = lustral.register_artifact("models", result["purified_model"]["weights_artifact_id"], "purified")
    again = lustral.create_job("evaluate", model_id=purified["id"], evaluation=job["evaluation"])
    assert lustral.wait(again["id"])["result"]["before"] == after


def test_a_clean_model_goes_through_unharmed(embedded: Service, clean: Inputs, receiver: Receiver, tmp_path: Path) -> None:
    lustral = embedded.lustral
    job = defend(lustral, clean, receiver, Silence(), lambda _: None)
    assert job["result"]["verdict"] in ("clean", "inconclusive")
    assert job["result"]["after"]["clean_score"] >= job["result"]["before"]["clean_score"] - 0.02
    weights = {artifact["name"]: artifact for artifact in lustral.artifacts(job["id"])}["model.zip"]
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(lustral.download(weights, tmp_path)).extractall(unpacked)
    tensors = {path.relative_to(folder).as_posix(): path.read_bytes() for folder in (clean.model,) for path in _safetensors(folder)}
    assert tensors == {path.relative_to(unpacked).as_posix(): path.read_bytes() for path in _safetensors(unpacked)}


def test_a_worker_killed_in_the_middle_of_purification_changes_nothing(service: Service, few: Inputs) -> None:
    lustral = service.lustral
    order = register(lustral, few, Silence()) | {"params": {"scan": BRIEFLY, "purify": {"reanswer": "all"}, "batch_size": 4}}
    undisturbed = lustral.wait(lustral.create_job("purify", **_without_evaluation(order))["id"])
    job = lustral.create_job("purify", **_without_evaluation(order))
    killed = False
    retried = 0
    for event in lustral.events(job["id"]):
        data = event["data"]
        if event["type"] == "job.progress" and data["stage"] == "purify" and 0 < data["done"] < data["total"] and not killed:
            service.kill_worker()
            killed = True
        retried += event["type"] == "job.retrying"
    assert killed, "purification was over before the worker could be killed"
    assert retried
    finished = lustral.job(job["id"])
    assert finished["status"] == undisturbed["status"] == "succeeded"
    assert finished["attempts"] > 1
    assert _digest(service, finished, "purified.jsonl") == _digest(service, undisturbed, "purified.jsonl")


@pytest.mark.parametrize("stage", ["scan", "verdict", "purify", "finetune", "evaluate"])
def test_a_job_can_be_cancelled_in_every_stage(embedded: Service, few: Inputs, stage: str) -> None:
    lustral = embedded.lustral
    # Long enough to be interrupted, but only where that is the point.
    epochs = 50 if stage == "finetune" else 1
    scan = {} if stage == "verdict" else BRIEFLY
    order = register(lustral, few, Silence()) | {"params": {"scan": scan, "purify": {"reanswer": "all"}, "finetune": {"epochs": epochs}}}
    job = lustral.create_job("defend", **order)
    seen: list[str] = []
    for event in lustral.events(job["id"]):
        seen.append(event["type"])
        if event["type"] == "job.stage" and event["data"]["stage"] == stage:
            assert lustral.cancel(job["id"])["status"] == "cancelling"
    assert seen[-1] == "job.cancelled"
    cancelled = lustral.job(job["id"])
    assert (cancelled["status"], cancelled["stage"]) == ("cancelled", stage)
    assert lustral.cancel(job["id"])["status"] == "cancelled"


def _without_evaluation(order: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in order.items() if name != "evaluation"}


def _digest(service: Service, job: dict[str, Any], name: str) -> str:
    [artifact] = [artifact for artifact in service.lustral.artifacts(job["id"]) if artifact["name"] == name]
    digest: str = artifact["sha256"]
    return digest


def _safetensors(folder: Path) -> list[Path]:
    return [path for path in files_in(folder) if path.suffix == ".safetensors"]
