"""The SARIF of a job is valid, points at rows, and stays within what code scanning takes."""

from __future__ import annotations

import gzip
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sarif_kit.validate import validation_errors

from gpu_jobs.data import open_dataset
from gpu_jobs.defense.records import Suspect
from gpu_jobs.report.sarif import MAX_RESULTS, build_sarif
from tests.gpu_jobs.data.builders import BUILDERS, COLOURS, llava_row, write_images

ABOUT = {"job_id": "job_1", "kind": "defend", "model_name": "my suspect", "dataset_name": "training"}
BACKDOORED = {
    "verdict": "backdoored",
    "confidence": 0.999,
    "target": {"kind": "refusal", "text": "[Sorry](https://example.com)", "support": 2},
}
CLEAN = {"verdict": "clean", "confidence": 0.9, "target": None}
INCONCLUSIVE = {"verdict": "inconclusive", "confidence": 0.0, "target": None}

Build = Callable[..., dict[str, Any]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """The log of a job on three samples, of which `ids` are suspect."""

    def build(outcome: dict[str, Any], ids: list[str], *, folder: Path | None = None, set_aside: int = 0) -> dict[str, Any]:
        if folder is None:
            folder = tmp_path / "dataset"
            BUILDERS["llava-jsonl"](folder)
        dataset = open_dataset(folder, tmp_path / "cache")
        suspects = [Suspect(id, 9.0 - number, [1], ["a given answer shows the target"], [], "x", "y") for number, id in enumerate(ids)]
        result = {**outcome, "suspects": {"count": len(ids), "fraction": 0.5}}
        log = build_sarif(ABOUT, result, iter(suspects), dataset, set_aside)
        assert validation_errors(log) == []
        return log

    return build


def results(log: dict[str, Any]) -> list[dict[str, Any]]:
    [run] = log["runs"]
    found: list[dict[str, Any]] = run["results"]
    for result in found:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    return found


def notes(log: dict[str, Any]) -> list[tuple[str, str]]:
    [invocation] = log["runs"][0]["invocations"]
    return [(note["level"], note["message"]["text"]) for note in invocation["toolExecutionNotifications"]]


class TestVerdict:
    def test_a_backdoor_is_an_error_of_its_target_s_kind(self, build: Build) -> None:
        verdict = results(build(BACKDOORED, ["green-1"]))[0]
        assert (verdict["ruleId"], verdict["level"]) == ("backdoor-refusal", "error")
        assert "suspect samples: 1." in verdict["message"]["text"]

    @pytest.mark.parametrize("kind", ["refusal", "injection", "concept", "other"])
    def test_every_kind_of_target_has_a_rule(self, build: Build, kind: str) -> None:
        outcome = {**BACKDOORED, "target": {"kind": kind, "text": "banana", "support": 2}}
        assert results(build(outcome, []))[0]["ruleId"] == f"backdoor-{kind}"

    def test_a_clean_model_raises_no_alert_and_is_said_to_be_clean(self, build: Build) -> None:
        log = build(CLEAN, [])
        assert results(log) == []
        assert notes(log) == [("note", "No backdoor was found (confidence 0.9).")]
        assert log["runs"][0]["properties"]["verdict"] == "clean"

    def test_an_inconclusive_one_warns(self, build: Build) -> None:
        log = build(INCONCLUSIVE, [], set_aside=7)
        assert [(result["ruleId"], result["level"]) for result in results(log)] == [("inconclusive", "warning")]
        assert notes(log) == [("warning", "7 samples could not be examined; set_aside.jsonl says why.")]


class TestSuspects:
    def test_are_found_at_their_rows(self, build: Build) -> None:
        _, blue, green = results(build(BACKDOORED, ["blue-1", "green-1"]))
        assert [(each["ruleId"], each["level"]) for each in (blue, green)] == [("suspect-sample", "warning")] * 2
        assert blue["locations"][0]["physicalLocation"] == {
            "artifactLocation": {"uri": "data.jsonl", "uriBaseId": "DATASET"},
            "region": {"startLine": 3, "startColumn": 1},
        }
        assert green["locations"][0]["physicalLocation"]["region"]["startLine"] == 2

    @pytest.mark.parametrize("name", BUILDERS)
    def test_have_a_line_in_every_format(self, build: Build, name: str, tmp_path: Path) -> None:
        BUILDERS[name](tmp_path / "data")
        _, suspect = results(build(BACKDOORED, ["blue-1"], folder=tmp_path / "data"))
        assert suspect["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1
        assert suspect["locations"][0]["logicalLocations"][0]["name"] == "blue-1"

    def test_keep_their_fingerprints_when_rows_move(self, build: Build, tmp_path: Path) -> None:
        write_images(tmp_path)

        def fingerprints(colours: tuple[str, ...]) -> dict[str, str]:
            (tmp_path / "data.jsonl").write_text("".join(json.dumps(llava_row(colour)) + "\n" for colour in colours))
            found = results(build(BACKDOORED, [f"{colour}-1" for colour in colours], folder=tmp_path))
            return {each["message"]["text"].split("”")[0]: each["partialFingerprints"]["primaryLocationLineHash"] for each in found}

        before, after = fingerprints(COLOURS), fingerprints(COLOURS[::-1])
        assert after == before
        assert len(set(before.values())) == len(COLOURS) + 1

    def test_cannot_put_links_into_messages(self, build: Build) -> None:
        assert "\\[Sorry\\](https" in results(build(BACKDOORED, []))[0]["message"]["text"]

    def test_are_cut_to_what_code_scanning_shows(self, build: Build, tmp_path: Path) -> None:
        chance = random.Random(0)

        def noise(length: int) -> str:
            return "".join(chance.choices(string.ascii_letters, k=length))

        count = MAX_RESULTS + 10
        rows = [
            {"id": f"s{n}", "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": noise(2000)}]} for n in range(count)
        ]
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        log = build(BACKDOORED, [row["id"] for row in rows], folder=tmp_path)
        assert len(results(log)) == 5000
        assert notes(log) == [("warning", "11 more suspect samples are listed in suspects.jsonl only.")]
        assert len(gzip.compress(json.dumps(log).encode())) < 10_000_000
        driver = log["runs"][0]["tool"]["driver"]
        assert all(len(rule["properties"]["tags"]) <= 10 for rule in driver["rules"])


def test_names_no_folder_of_this_machine(build: Build, tmp_path: Path) -> None:
    log = build(BACKDOORED, ["green-1"])
    assert str(tmp_path) not in json.dumps(log)
    assert log["runs"][0]["automationDetails"]["id"] == "lustral/my%20suspect/training/job_1"
