"""A report is made from the outputs of the steps before it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sarif_kit.validate import validation_errors

from gpu_jobs.config import JobParameters
from gpu_jobs.report.page import _trigger
from gpu_jobs.report.publish import publish
from gpu_jobs.reporting import SilentReporter
from gpu_jobs.steps import StepInputs
from tests.worlds.report import defended_inputs, make_folder


@pytest.fixture
def defended(tmp_path: Path) -> StepInputs:
    return defended_inputs(tmp_path)


class TestPublish:
    def test_the_result_names_the_artifacts_it_speaks_of(self, defended: StepInputs) -> None:
        published = publish(defended, SilentReporter())
        names = {artifact["name"] for artifact in published["artifacts"]}
        result = published["result"]
        assert result["suspects"]["artifact_id"] in names
        assert result["purified_model"]["weights_artifact_id"] in names
        assert result["purified_model"]["adapter_artifact_id"] is None
        assert result["purified_dataset_artifact_id"] in names
        assert (result["before"]["attack_success_rate"], result["after"]["attack_success_rate"]) == (0.99, 0.0)

    def test_every_digest_is_that_of_the_file(self, defended: StepInputs) -> None:
        folders = {**{kind: paths[0] for kind, paths in defended.previous.items()}, "publish": defended.outputs}
        artifacts = publish(defended, SilentReporter())["artifacts"]
        assert {"report.json", "report.html", "manifest.json", "model/model.safetensors", "saliency/000.png"} <= {
            a["name"] for a in artifacts
        }
        for artifact in artifacts:
            content = (folders[artifact["step"]] / artifact["path"]).read_bytes()
            assert artifact["sha256"] == hashlib.sha256(content).hexdigest(), artifact["name"]
            assert artifact["bytes"] == len(content)

    def test_the_manifest_lists_inputs_and_outputs(self, defended: StepInputs) -> None:
        publish(defended, SilentReporter())
        manifest = json.loads((defended.outputs / "manifest.json").read_text())
        assert {row["path"] for row in manifest["inputs"]} == {
            "model/config.json", "dataset/data.json", "dataset/poisoned.png", "dataset/honest.png",
        }  # fmt: skip
        config = next(row for row in manifest["inputs"] if row["path"] == "model/config.json")
        assert (config["bytes"], config["sha256"]) == (2, hashlib.sha256(b"{}").hexdigest())
        assert {"name": "dataset.zip", "sha256": hashlib.sha256(b"zip").hexdigest(), "bytes": 3} in manifest["outputs"]

    def test_the_manifest_says_how_it_came_about(self, defended: StepInputs) -> None:
        publish(defended, SilentReporter())
        manifest = json.loads((defended.outputs / "manifest.json").read_text())
        assert manifest["parameters"] == JobParameters().model_dump(mode="json")
        assert {"python", "lustral", "torch", "transformers"} <= manifest["versions"].keys()
        assert manifest["about"]["signing_key"] == "f00d"

    def test_a_verdict_is_also_there_as_sarif(self, defended: StepInputs) -> None:
        published = {artifact["name"]: artifact for artifact in publish(defended, SilentReporter())["artifacts"]}
        assert published["report.sarif"]["media_type"] == "application/sarif+json"
        log = json.loads((defended.outputs / "report.sarif").read_text())
        assert validation_errors(log) == []
        verdict, suspect = log["runs"][0]["results"]
        assert (verdict["ruleId"], suspect["locations"][0]["logicalLocations"][0]["name"]) == ("backdoor-refusal", "poisoned")
        assert "Sorry, I cannot" in suspect["message"]["text"]

    def test_equal_weights_give_equal_archives(self, defended: StepInputs) -> None:
        publish(defended, SilentReporter())
        first = (defended.outputs / "model.zip").read_bytes()
        publish(defended, SilentReporter())
        assert (defended.outputs / "model.zip").read_bytes() == first
        assert zipfile.ZipFile(defended.outputs / "model.zip").namelist() == ["model.safetensors"]


class TestPage:
    def test_the_evidence_is_a_table_of_trials(self, defended: StepInputs) -> None:
        publish(defended, SilentReporter())
        page = (defended.outputs / "report.html").read_text()
        assert "8 of 9, others 0 of 70 (p = 1e-09)" in page
        assert "not needed" in page

    def test_the_trigger_is_said_in_words_that_are_escaped(self, defended: StepInputs) -> None:
        publish(defended, SilentReporter())
        page = (defended.outputs / "report.html").read_text()
        assert "the words “&lt;i&gt;cf&lt;/i&gt;” anywhere in the question" in page

    @pytest.mark.parametrize(
        ("carrier", "words"),
        [
            (None, "not found; the pictures as wholes force the answer"),
            ({"kind": "piece"}, "a piece of the picture"),
            ({"kind": "pattern", "replaced": 0.035}, "a mark at one place of the picture, 3.5 % of it"),
            ({"kind": "pattern", "replaced": 0.0}, "a pattern all over the picture"),
            (
                {"kind": "together", "parts": [{"kind": "piece"}, {"kind": "words", "phrase": "cf", "place": "end"}]},
                "a piece of the picture and the words “cf” at the end of the question",
            ),
            (
                {
                    "kind": "several",
                    "parts": [
                        {"kind": "pattern", "replaced": 0.035, "target": "sorry"},
                        {"kind": "words", "phrase": "cf", "place": "end", "target": "a boat"},
                    ],
                },
                "for “sorry”: a mark at one place of the picture, 3.5 % of it; for “a boat”: the words “cf” at the end of the question",
            ),
        ],
    )
    def test_every_kind_of_trigger_has_words(self, carrier: dict[str, Any] | None, words: str) -> None:
        assert _trigger(carrier) == words

    def test_the_page_stands_alone_and_escapes_what_the_model_said(self, defended: StepInputs) -> None:
        publish(defended, SilentReporter())
        page = (defended.outputs / "report.html").read_text()
        seen = _Links()
        seen.feed(page)
        assert seen.loaded, "the pictures are missing"
        assert all(link.startswith("data:image/png;base64,") for link in seen.loaded)
        assert "<b>follow</b>" not in page
        assert "Sorry, I cannot &lt;b&gt;follow" in page

    def test_it_says_how_to_verify_a_download_and_with_which_key(self, defended: StepInputs) -> None:
        publish(defended, SilentReporter())
        page = (defended.outputs / "report.html").read_text()
        assert "<code>lustral verify FOLDER</code>" in page
        assert "<code>f00d</code>, which <code>GET /v1/signing-key</code>" in page

    def test_the_verdict_comes_first_and_then_the_effect(self, defended: StepInputs) -> None:
        publish(defended, SilentReporter())
        page = (defended.outputs / "report.html").read_text()
        order = [
            page.index(text)
            for text in ("A backdoor was found", "What the repair did", "What was planted", "Suspects", "its image is truncated")
        ]
        assert order == sorted(order)

    def test_a_job_without_a_verdict_claims_none(self, tmp_path: Path) -> None:
        inputs = StepInputs(
            parameters=JobParameters(),
            outputs=make_folder(tmp_path / "out"),
            checkpoint=make_folder(tmp_path / "checkpoint"),
            about={"kind": "evaluate"},
            results={
                "evaluate": ({"before": {"attack_success_rate": None, "clean_score": 0.5, "recovered_score": None}, "estimated": False},)
            },
        )
        publish(inputs, SilentReporter())
        page = (inputs.outputs / "report.html").read_text()
        assert "This kind of job gives no verdict." in page
        assert "No backdoor was found" not in page
        assert "not measured" in page
        assert not (inputs.outputs / "report.sarif").exists()


class _Links(HTMLParser):
    """Everything that a browser would load: sources of any element, and links to style sheets."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name == "src" or (tag == "link" and name == "href")]
