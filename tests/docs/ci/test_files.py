"""What docs/ci shows is what it holds, and what the forges' own schemas allow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.ci.conftest import CI

README = (CI / "README.md").read_text()


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("github-actions", "github/action.yml"),
        ("github-workflows", "github/workflow.yml"),
        ("gitlab-ci", "gitlab/lustral.gitlab-ci.yml"),
        ("gitlab-ci", "gitlab/example.gitlab-ci.yml"),
    ],
)
def test_fits_the_schema(schema: str, path: str) -> None:
    command: list[str | Path] = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", CI / path]
    check = subprocess.run(command, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_the_tutorial_shows_what_the_files_hold(block: str) -> None:
    assert [path for path in CI.glob("*/*.yml") if block in path.read_text()]
