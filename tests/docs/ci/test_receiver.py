"""The receiver as a process of its own: told by the service of a job's end, and by others of what is not so."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.docs.ci.actions import SHA, Run
from tests.docs.ci.conftest import GitHub, Receiver


@pytest.fixture
def sha() -> str:
    """A commit that no other test knows."""
    return secrets.token_hex(20)


def _message(sha: str, verdict: str | None = "clean", status: str = "succeeded", **job: Any) -> str:
    result = {"verdict": verdict, "suspects": {"count": 3}} if verdict else None
    metadata = {"repository": "acme/vision", "sha": sha}
    data = {"id": "job_1", "object": "job", "kind": "scan", "status": status, "metadata": metadata, "result": result, **job}
    return json.dumps({"type": f"job.{status}", "timestamp": "2026-01-01T00:00:00Z", "data": data})


def _headers(receiver: Receiver, body: str, *, age: timedelta = timedelta(), id: str | None = None) -> dict[str, str]:
    """As the `standardwebhooks` library signs."""
    id, at = id or f"msg_{secrets.token_hex(8)}", datetime.now(UTC) - age
    signature = Webhook(receiver.secret).sign(id, at, body)
    return {"webhook-id": id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def _send(receiver: Receiver, body: str, headers: dict[str, str] | None = None) -> int:
    return httpx.post(receiver.url, content=body, headers=headers or _headers(receiver, body)).status_code


def test_the_end_of_a_scan_in_ci_becomes_the_status_of_its_commit(scanned: Run, github: GitHub) -> None:
    assert scanned.outputs["verdict"] == "backdoored"
    deadline = time.monotonic() + 30
    while not (failures := [status for status in github.statuses_of(SHA) if status["state"] == "failure"]):
        assert time.monotonic() < deadline, "the worker delivers when it likes, but not so late"
        time.sleep(0.05)
    assert failures[0]["context"] == "lustral/scan"
    assert failures[0]["description"].startswith("A backdoor was found; suspect samples: 12 (job_")


class TestStatus:
    @pytest.mark.parametrize(
        ("verdict", "status", "state"),
        [
            ("clean", "succeeded", "success"),
            ("backdoored", "succeeded", "failure"),
            ("inconclusive", "succeeded", "error"),
            (None, "failed", "error"),
            (None, "cancelled", "error"),
        ],
    )
    def test_only_a_clean_model_passes(
        self, receiver: Receiver, github: GitHub, sha: str, verdict: str | None, status: str, state: str
    ) -> None:
        assert _send(receiver, _message(sha, verdict, status)) == 204
        [told] = github.statuses_of(sha)
        assert told["state"] == state
        assert len(told["description"]) <= 140, "GitHub takes no more"

    @pytest.mark.parametrize(
        "job",
        [
            {"status": "running", "result": None},
            {"kind": "finetune", "result": None},
            {"metadata": {}},
            {"metadata": {"repository": "acme/vision"}},
            {"metadata": {"repository": "acme/vision", "sha": "main"}},
            {"metadata": {"repository": "acme/vision", "sha": "../../../user"}},
            {"metadata": {"repository": "stranger/repository", "sha": "0" * 40}},
        ],
    )
    def test_whatever_is_no_end_of_a_job_about_our_commits_is_left_alone(
        self, receiver: Receiver, github: GitHub, sha: str, job: dict[str, Any]
    ) -> None:
        assert _send(receiver, _message(sha, **job)) == 204
        assert not {path for path, _, _ in github.calls if path.endswith((sha, "main", "user", "0" * 40))}

    @pytest.mark.parametrize(
        "data", [{"id": "model_1", "object": "model", "status": "ready"}, {"id": "job_1", "status": "succeeded", "truncated": True}]
    )
    def test_so_are_messages_without_metadata(self, receiver: Receiver, data: dict[str, Any]) -> None:
        assert _send(receiver, json.dumps({"type": "any", "data": data})) == 204

    def test_what_github_did_not_take_is_taken_again(self, receiver: Receiver, github: GitHub, sha: str) -> None:
        github.busy.add(sha)
        body = _message(sha)
        headers = _headers(receiver, body)
        assert [_send(receiver, body, headers), _send(receiver, body, headers)] == [502, 204]
        assert len(github.statuses_of(sha)) == 1


class TestSignature:
    def test_a_message_sent_twice_works_once(self, receiver: Receiver, github: GitHub, sha: str) -> None:
        body = _message(sha)
        headers = _headers(receiver, body)
        again = _headers(receiver, body, id=headers["webhook-id"])  # as after an answer that got lost
        assert [_send(receiver, body, headers), _send(receiver, body, headers), _send(receiver, body, again)] == [204, 204, 204]
        assert len(github.statuses_of(sha)) == 1

    @pytest.mark.parametrize("age", [timedelta(minutes=6), timedelta(minutes=-6), timedelta(days=400)])
    def test_of_another_time_is_refused(self, receiver: Receiver, github: GitHub, sha: str, age: timedelta) -> None:
        body = _message(sha)
        assert _send(receiver, body, _headers(receiver, body, age=age)) == 401
        assert github.statuses_of(sha) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"webhook-id": "msg_another"},
            {"webhook-timestamp": str(int(time.time()) - 60)},
            {"webhook-timestamp": "now"},
            {"webhook-signature": "v1,AAAA"},
            {"webhook-signature": "nonsense"},
            {"webhook-signature": "v1,not base64"},
            {"webhook-signature": ""},
        ],
    )
    def test_that_does_not_fit_is_refused(self, receiver: Receiver, github: GitHub, sha: str, change: dict[str, str]) -> None:
        body = _message(sha)
        assert _send(receiver, body, {**_headers(receiver, body), **change}) == 401
        assert github.statuses_of(sha) == []

    def test_of_another_text_is_refused(self, receiver: Receiver, github: GitHub, sha: str) -> None:
        assert _send(receiver, _message(sha, "clean"), _headers(receiver, _message(sha, "backdoored"))) == 401
        assert github.statuses_of(sha) == []

    def test_by_another_secret_is_refused(self, receiver: Receiver, sha: str) -> None:
        body = _message(sha)
        assert _send(receiver, body, _headers(Receiver(receiver.url, "whsec_AAAA"), body)) == 401

    def test_that_is_missing_is_refused(self, receiver: Receiver, sha: str) -> None:
        assert httpx.post(receiver.url, content=_message(sha)).status_code == 401
        assert httpx.post(receiver.url, content=b"\xff", headers=_headers(receiver, "x")).status_code == 401


def test_more_than_a_message_is_not_read(receiver: Receiver) -> None:
    assert _send(receiver, "x" * 100_000) == 413
