"""The run fails when a secret that a test used stands in a log, wherever the log is."""

from __future__ import annotations

import base64
import logging
import secrets
import sys
from pathlib import Path

import httpx
import pytest
import structlog

from app.auth.keys import new_key
from app.embedded.processes import start_process
from tests.canaries import Canaries

SECRETS = {
    "key": new_key(),
    "webhook": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD5sSYspob7oE=",
    "link": "https://s3/x?X-Amz-Expires=60&X-Amz-Signature=" + "0123456789abcdef" * 4,
    "token": "hf_AbCdEfGhIjKlMn",
}


@pytest.fixture
def noted(tmp_path: Path) -> Canaries:
    """What a test has used that created a credential and was answered with the other secrets."""
    noted = Canaries(tmp_path)
    request = httpx.Request(
        "POST",
        "https://server/v1/credentials",
        json={"type": "huggingface", "token": SECRETS["token"]},
        headers={"Authorization": f"Bearer {SECRETS['key']}"},
    )
    noted.note_exchange(request, httpx.Response(200, json={"secret": SECRETS["webhook"], "url": SECRETS["link"]}))
    return noted


class TestCanaries:
    @pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
    def test_find_each_kind_of_secret(self, noted: Canaries, tmp_path: Path, secret: str) -> None:
        log = tmp_path / "deep" / "api.log"
        log.parent.mkdir()
        log.write_text(f"started\nread {secret} here\n")
        assert noted.leaks() == [f"{log} ({log.stat().st_ino}): read {secret} here"]

    def test_are_content_with_what_was_hidden_and_with_what_nobody_used(self, noted: Canaries, tmp_path: Path) -> None:
        (tmp_path / "api.log").write_text(f"read lus_[hidden] and whsec_[hidden], not {new_key()} or sha256 {secrets.token_hex(32)}\n")
        assert noted.leaks() == []

    def test_find_it_in_a_log_that_was_deleted(self, noted: Canaries, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text(SECRETS["key"])
        noted.watch(log)
        log.unlink()
        assert len(noted.leaks()) == 1


class TestThisRun:
    """The plugin is at work here: it hears of every exchange, and of what is logged."""

    def test_notes_what_is_sent_and_received(self, canaries: Canaries) -> None:
        sent, received = new_key(), f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"secret": received}))
        with httpx.Client(transport=transport, headers={"Authorization": f"Bearer {sent}"}) as client:
            client.get("https://server/v1/webhooks")
        assert [canaries.holds(secret.encode()) for secret in (sent, received, new_key())] == [True, True, False]

    def test_reads_the_logs_of_this_process_and_of_others(self, canaries: Canaries, tmp_path: Path) -> None:
        marks = {name: f"mark-{name}-{secrets.token_hex(8)}" for name in ("structlog", "logging", "process")}
        structlog.get_logger().info(marks["structlog"])
        logging.getLogger("some.library").warning(marks["logging"])
        start_process([sys.executable, "-c", f"print({marks['process']!r})"], log=tmp_path / "log").wait()
        text = b"".join(line for _, line in canaries.lines()).decode()
        assert [name for name, mark in marks.items() if mark not in text] == []


SUITE = """
import httpx
import structlog

KEY = {key!r}

def test_that_leaks(tmp_path) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(204))
    with httpx.Client(transport=transport, headers={{"Authorization": "Bearer " + KEY}}) as client:
        client.get("https://server/v1/keys")
    structlog.get_logger().info("said", text=KEY)
    if {leaks}:
        (tmp_path / "api.log").write_text(KEY)
"""


@pytest.mark.parametrize(("leaks", "outcome"), [(True, {"passed": 1, "errors": 1}), (False, {"passed": 1})])
def test_a_run_that_leaks_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, leaks: bool, outcome: dict[str, int]) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makepyfile(SUITE.format(key=new_key(), leaks=leaks))
    run = pytester.runpytest_subprocess("-p", "tests.canaries", "-p", "no:schemathesis", "-p", "no:xdist")
    run.assert_outcomes(**outcome)
    assert ("Secrets stand in logs:" in run.stdout.str()) == leaks
