"""What the targets of the Makefile ask for; nothing is installed and no suite is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A virtual environment that is up to date, whose Python only says what it was asked for."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$LUSTRAL_CHAOS_SCHEDULES schedules, $LUSTRAL_CHAOS_OUTAGE_SECONDS s: $*"\n')
    python.chmod(0o755)
    (tmp_path / "test").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "schedules", "seconds"),
    [({}, "200", "30"), ({"LUSTRAL_CHAOS_SCHEDULES": "9"}, "9", "30"), ({"LUSTRAL_CHAOS_OUTAGE_SECONDS": "7"}, "200", "7")],
)
def test_a_night_of_chaos_has_long_outages_and_many_schedules_unless_told_otherwise(
    tools: Path, asked: dict[str, str], schedules: str, seconds: str
) -> None:
    command = ["make", "--no-print-directory", "chaos-nightly", f"BIN={tools}", f"STAMPS={tools}"]
    said = subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"], **asked}, check=True, capture_output=True, text=True).stdout
    assert said == f"{schedules} schedules, {seconds} s: -m pytest -m chaos tests/chaos\n"
