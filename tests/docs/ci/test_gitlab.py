"""The GitLab job: its own scripts, run as a runner runs them, against a running service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from app.embedded.local import Server
from tests.docs.ci.actions import MACHINE
from tests.docs.ci.conftest import CI, QUICK
from tests.docs.markdown import ROOT

JOB = yaml.safe_load((CI / "gitlab" / "lustral.gitlab-ci.yml").read_text())[".lustral"]
RunJob = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_job(checkout: Path, server: Server) -> RunJob:
    """Run the job on `suspect` and the data set `few` with the version of Lustral here, but for the variables given."""

    def run(*shell: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **MACHINE,
            "PYTHONPATH": str(ROOT),
            "LUSTRAL_SERVER": server.url,
            "LUSTRAL_API_KEY": server.api_key,
            "CI_PROJECT_PATH": "acme/vision",
            "CI_COMMIT_SHA": "f" * 40,
            **{name: str(value) for name, value in JOB["variables"].items()},
            "LUSTRAL_MODEL": "suspect",
            "LUSTRAL_DATASET": "few",
            **variables,
        }
        # A runner joins both lists and has one shell read them.
        script = "\n".join([*JOB["before_script"], *JOB["script"]])
        return subprocess.run(
            [*(shell or ("bash", "-eo", "pipefail")), "-c", script], cwd=checkout, env=environment, capture_output=True, text=True
        )

    return run


def test_an_inconclusive_scan_fails_the_job(run_job: RunJob, checkout: Path) -> None:
    run = run_job()
    assert run.returncode == 2, run.stderr
    assert "Verdict: inconclusive" in run.stdout
    for path in JOB["artifacts"]["paths"]:
        assert (checkout / path).exists()
    assert JOB["artifacts"]["when"] == "always"
    assert json.loads((checkout / "lustral.sarif").read_text())["runs"][0]["properties"]["verdict"] == "inconclusive"


def test_or_ends_it_with_the_status_that_the_pipeline_forgives(run_job: RunJob) -> None:
    # dash is the other shell that images have
    run = run_job("sh", "-e", LUSTRAL_INCONCLUSIVE="warn", LUSTRAL_SETTINGS="seed=1\nscan.alpha=0.01\n")
    assert run.returncode == JOB["allow_failure"]["exit_codes"] == 3, run.stderr


def test_a_found_backdoor_fails_the_job(run_job: RunJob) -> None:
    run = run_job(LUSTRAL_DATASET="training-set", LUSTRAL_SETTINGS=QUICK)
    assert run.returncode == 1, run.stderr


@pytest.mark.parametrize("inconclusive", ["fail", "warn"])
def test_a_scan_that_breaks_fails_it_whatever_was_there_before(run_job: RunJob, checkout: Path, inconclusive: str) -> None:
    (checkout / "lustral.sarif").write_text("{}")
    run = run_job(LUSTRAL_DATASET="nowhere", LUSTRAL_INCONCLUSIVE=inconclusive)
    assert run.returncode == 2
    assert "nowhere" in run.stderr
    assert not (checkout / "lustral.sarif").exists()


def test_what_pip_cannot_get_fails_it(run_job: RunJob) -> None:
    run = run_job(LUSTRAL_PACKAGE="./no-such-package")
    assert run.returncode == 1
    assert "no-such-package" in run.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"LUSTRAL_COMMAND": "purify"},
        {"LUSTRAL_FAIL_ON": ""},
        {"LUSTRAL_INCONCLUSIVE": "fail | warn"},
        {"LUSTRAL_MODEL": ""},
        {"LUSTRAL_DATASET": ""},
    ],
)
def test_wrong_variables_are_named_before_anything_is_done(run_job: RunJob, variables: dict[str, str]) -> None:
    run = run_job(LUSTRAL_PACKAGE="./no-such-package", **variables)
    assert run.returncode == 2
    assert next(iter(variables)) in run.stderr


@pytest.mark.parametrize("name", ["LUSTRAL_MODEL", "LUSTRAL_SETTINGS"])
def test_variables_are_never_read_as_code(run_job: RunJob, checkout: Path, name: str) -> None:
    run = run_job(**{name: "a=$(touch taken) `touch taken` \"; touch taken; ' ; touch taken\nEOF\ntouch taken"})
    assert run.returncode == 2
    assert not (checkout / "taken").exists()
