"""The GitHub action: its own scripts, run by bash as GitHub runs them, against a running service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.client import Lustral
from app.embedded.local import Server
from app.provenance.folder import verify_folder
from app.provenance.keys import PublicKey
from tests.docs.ci.actions import Run, run_action
from tests.docs.ci.conftest import ACTION, CI

CODE_SCANNING = "github/codeql-action/upload-sarif"
ANYTHING = {"model": "model_1", "dataset": "dset_1", "server": "http://127.0.0.1:1", "api-key": "lus_1"}


class TestBackdoor:
    def test_fails_the_build(self, scanned: Run) -> None:
        assert scanned.code == 1, scanned.log
        assert scanned.outputs["exit-code"] == "1"
        assert scanned.outputs["verdict"] == "backdoored"
        assert "::error title=Lustral::A backdoor was found." in scanned.log
        assert scanned.summary == "**Lustral: backdoored.** A backdoor was found.\n"

    def test_is_shown_in_code_scanning_all_the_same(self, scanned: Run) -> None:
        assert scanned.uses == {CODE_SCANNING: {"sarif_file": scanned.outputs["sarif"]}}
        results = json.loads(Path(scanned.outputs["sarif"]).read_text())["runs"][0]["results"]
        assert results[0]["level"] == "error"
        places = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results}
        assert places == {"suspect/config.json", "training-set/data.json"}

    def test_leaves_the_report(self, scanned: Run, checkout: Path) -> None:
        assert "backdoor" in (checkout / "lustral" / "report.html").read_text()

    def test_shows_its_log_but_lets_no_line_of_it_command_the_runner(self, scanned: Run) -> None:
        token, inside = scanned.log.split("::stop-commands::", 1)[1].split("\n", 1)
        assert "Verdict: backdoored" in inside[: inside.index(f"\n::{token}::\n")]
        assert len(token) == 64

    def test_the_key_is_never_shown(self, scanned: Run, server: Server) -> None:
        assert server.api_key not in scanned.log


class TestInconclusive:
    def test_fails_the_build_unless_asked_to_warn(self, scanned: Run, checkout: Path, server: Server) -> None:
        given = {"model": "suspect", "dataset": "few", "server": server.url, "api-key": server.api_key}
        told = run_action(ACTION, checkout, given, done={"install": scanned.steps["install"]})
        assert (told.code, told.outputs["verdict"]) == (2, "inconclusive"), told.log
        assert CODE_SCANNING in told.uses

        warned = run_action(ACTION, checkout, {**given, "inconclusive": "warn"}, done=told.steps)
        assert warned.code == 0
        assert "::warning title=Lustral::It could not be told" in warned.log


class TestBroken:
    @pytest.mark.parametrize("inconclusive", ["fail", "warn"])
    def test_a_scan_that_breaks_fails_the_build(self, scanned: Run, checkout: Path, server: Server, inconclusive: str) -> None:
        given = {"model": "suspect", "dataset": "nowhere", "server": server.url, "api-key": server.api_key, "inconclusive": inconclusive}
        broken = run_action(ACTION, checkout, given, done={"install": scanned.steps["install"]})
        assert (broken.code, broken.outputs["verdict"], broken.outputs["sarif"]) == (2, "unknown", "")
        assert "nowhere" in broken.log
        assert broken.uses == {}


class TestInputs:
    @pytest.mark.parametrize(
        "given",
        [
            {"command": "purify"},
            {"command": "scan|defend"},
            {"command": "scan\ndefend"},
            {"fail-on": "suspicious"},
            {"inconclusive": ""},
            {"upload-sarif": "yes"},
            {"model": ""},
            {"dataset": ""},
            {"server": "lustral.example"},
            {"server": "https://lustral.example\nhttps://elsewhere.example"},
            {"api-key": ""},
        ],
    )
    def test_that_are_wrong_are_named_before_anything_is_done(self, tmp_path: Path, given: dict[str, str]) -> None:
        (tmp_path / "checkout").mkdir()
        run = run_action(ACTION, tmp_path / "checkout", ANYTHING | given)
        assert run.code == 2
        assert run.log.startswith(f"::error title=Lustral::Input {next(iter(given))} ")
        assert len(run.log.splitlines()) == 1
        assert run.steps == {}

    @pytest.mark.parametrize("name", ["model", "dataset", "settings", "output"])
    def test_are_never_read_as_code(self, scanned: Run, checkout: Path, server: Server, name: str) -> None:
        text = "a=$(touch taken) `touch taken` \"; touch taken; ' ; touch taken\ntouch=taken"
        given = ANYTHING | {"server": server.url, "api-key": server.api_key, name: text}
        run = run_action(ACTION, checkout, given, done={"install": scanned.steps["install"]})
        assert run.code == 2, run.log
        assert not (checkout / "taken").exists()

    def test_are_never_read_as_options(self, scanned: Run, checkout: Path, server: Server) -> None:
        given = ANYTHING | {"server": server.url, "api-key": server.api_key, "model": "--help", "output": "--help"}
        run = run_action(ACTION, checkout, given, done={"install": scanned.steps["install"]})
        assert run.code == 2, run.log
        assert "Usage:" not in run.log


def test_an_audit_finds_no_way_into_it() -> None:
    """zizmor knows script injection, loose permissions, kept credentials, actions that are not pinned, and more."""
    github = CI / "github"
    command: list[str | Path] = [
        Path(sys.executable).with_name("zizmor"),
        "--offline",
        "--config",
        github / "zizmor.yml",
        ACTION,
        github / "workflow.yml",
    ]
    audit = subprocess.run(command, capture_output=True, text=True)
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_a_found_backdoor_only_warns_where_the_build_may_go_on(scanned: Run, checkout: Path) -> None:
    done = {"install": scanned.steps["install"], "scan": {**scanned.steps["scan"], "exit-code": "0"}}
    run = run_action(ACTION, checkout, ANYTHING | {"fail-on": "nothing"}, done=done)
    assert run.code == 0
    assert "::warning title=Lustral::A backdoor was found" in run.log
    assert CODE_SCANNING in run.uses


def test_what_it_hands_out_is_genuine(scanned: Run, checkout: Path, server: Server) -> None:
    with Lustral(server.url, server.api_key) as lustral:
        key = PublicKey.from_pem(lustral.signing_key()["public_key"].encode())
    assert verify_folder(checkout / "lustral", key).files > 3
