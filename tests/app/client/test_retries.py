"""What may pass is tried again, for a minute and without a word."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.orm import Session

from app.client import ApiError, Lustral, retries
from app.jobs.inspections import find_input
from tests.app.client.flaky import RefuseFirst, run_behind

QUOTA = "urn:lustral:problem:quota-exceeded"


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(retries, "time", made)
    return made


def ask(status: int, retry_after: str | None = None, problem: str = "about:blank") -> tuple[ApiError, int]:
    """How a request ends that is always answered so, and how often it was sent."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        headers = [] if retry_after is None else [(b"Retry-After", retry_after.encode("latin-1"))]
        return httpx.Response(status, headers=headers, json={"type": problem, "title": "No", "detail": "not now"})

    with Lustral("http://lustral", "key", transport=httpx.MockTransport(answer)) as client, pytest.raises(ApiError) as caught:
        client.call("GET", "/v1/jobs")
    return caught.value, len(asked)


class TestWaiting:
    @pytest.mark.parametrize(("status", "problem"), [(429, QUOTA), (429, "about:blank"), (503, "about:blank")])
    def test_is_not_begun_where_the_server_asks_for_more_than_a_minute(self, clock: Clock, status: int, problem: str) -> None:
        error, asked = ask(status, "3600", problem)
        assert (clock.slept, asked, error.retry_after) == ([], 1, 3600)

    def test_is_as_long_as_the_server_asks_within_a_minute(self, clock: Clock) -> None:
        _, asked = ask(429, "25", QUOTA)
        assert (clock.slept, asked) == ([25, 25], 3)

    @pytest.mark.parametrize("retry_after", [None, "", "soon", "²", "-1"])
    def test_becomes_longer_where_the_server_does_not_say(self, clock: Clock, retry_after: str | None) -> None:
        _, asked = ask(503, retry_after)
        assert asked == 8
        assert all(0.1 * 2**number <= pause <= 0.1 * 2**number + 1 for number, pause in enumerate(clock.slept))

    def test_ends_with_the_minute_where_no_server_answers_in_time(self, clock: Clock) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            clock.now += 29
            raise httpx.ReadTimeout("nothing came")

        with Lustral("http://lustral", "key", transport=httpx.MockTransport(answer)) as client, pytest.raises(httpx.ReadTimeout):
            client.call("GET", "/v1/jobs")
        assert clock.now < 1000 + 3 * 30


class TestSilence:
    """A program's standard output is its own, and a link to a part is a secret."""

    def test_is_kept_by_the_command_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def accept(session: Session, *, subject_id: str, **_: Any) -> None:
            subject = find_input(session, subject_id)
            assert subject is not None
            subject.status = "ready"

        monkeypatch.setattr("app.sources.service.queue_inspection", accept)
        for name in ("model", "data"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "data.json").write_text(name)
        with run_behind(RefuseFirst, tmp_path, monkeypatch) as server, server.new_tenant() as tenant:
            scan = ["scan", str(tmp_path / "model"), str(tmp_path / "data"), "--json", "--server", server.url, "--api-key", tenant.key]
            ran = subprocess.run([sys.executable, "-m", "app.cli", *scan], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["status"] == "queued"
        assert "signature=" not in ran.stdout + ran.stderr
        assert ran.stderr == ""
