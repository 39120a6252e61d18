"""The exit status is what CI systems act on."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from app.cli.outcome import exit_status, print_outcome


def _job(status: str, verdict: str | None = None, **result: Any) -> dict[str, Any]:
    return {
        "id": "job_1",
        "kind": "defend",
        "status": status,
        "error": {"title": "A step failed", "detail": "why"} if status == "failed" else None,
        "result": {"verdict": verdict, **result} if verdict else None,
    }


@pytest.mark.parametrize(
    ("status", "verdict", "fail_on", "expected"),
    [
        ("succeeded", "clean", "backdoored", 0),
        ("succeeded", "backdoored", "backdoored", 1),
        ("succeeded", "backdoored", None, 0),
        ("succeeded", "inconclusive", "backdoored", 2),
        ("succeeded", "inconclusive", None, 2),
        ("succeeded", None, None, 0),
        ("failed", None, None, 2),
        ("cancelled", None, "backdoored", 2),
        ("queued", None, None, 0),
    ],
)
def test_exit_status(status: str, verdict: str | None, fail_on: str | None, expected: int) -> None:
    assert exit_status(_job(status, verdict), fail_on) == expected


def test_shows_the_figures_that_were_measured_and_says_which_were_not() -> None:
    console = Console(record=True, width=120)
    job = _job(
        "succeeded",
        "backdoored",
        confidence=0.9991,
        suspects={"count": 3, "fraction": 0.15},
        target={"kind": "refusal", "text": "[Sorry]"},
        before={"attack_success_rate": 0.991, "clean_score": 0.93, "recovered_score": None},
        after={"attack_success_rate": 0.0, "clean_score": 0.92, "recovered_score": None},
        estimated=True,
    )
    print_outcome(console, job, None)
    text = console.export_text()
    assert "backdoored (confidence 0.999); 3 suspects, 15.0% of the data set" in text
    assert "refusal: '[Sorry]'" in text
    assert "99.1 %" in text
    assert "not measured" in text
    assert "Estimated" in text


def test_says_why_it_failed() -> None:
    console = Console(record=True, width=120)
    print_outcome(console, _job("failed"), None)
    assert "A step failed: why" in console.export_text()
