"""The demo's receiver believes nobody without a signature."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from standardwebhooks import Webhook

from app.demo.receiver import LARGEST_BODY, Receiver

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cw=="


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as receiver:
        receiver.secret = SECRET
        yield receiver


def _send(receiver: Receiver, type: str, *, secret: str = SECRET, at: datetime | None = None, padding: int = 0) -> int:
    body = json.dumps({"type": type, "data": {"id": "job_1"}, "padding": "x" * padding})
    moment = at or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", moment, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature}
    return httpx.post(receiver.url, content=body, headers=headers).status_code


def test_keeps_what_is_signed(receiver: Receiver) -> None:
    assert _send(receiver, "job.started") == 204
    assert _send(receiver, "job.succeeded") == 204
    assert receiver.wait_for("job.succeeded", "job_1", 1)["data"] == {"id": "job_1"}


def test_refuses_another_secret(receiver: Receiver) -> None:
    assert _send(receiver, "job.succeeded", secret="whsec_b3RoZXI=") == 401
    with pytest.raises(queue.Empty):
        receiver.wait_for("job.succeeded", "job_1", 0.05)


def test_refuses_what_was_signed_long_ago(receiver: Receiver) -> None:
    assert _send(receiver, "job.succeeded", at=datetime.now(UTC) - timedelta(hours=1)) == 401


def test_refuses_everything_before_it_knows_the_secret(receiver: Receiver) -> None:
    receiver.secret = None
    assert _send(receiver, "job.succeeded") == 401


def test_does_not_read_what_is_far_too_long(receiver: Receiver) -> None:
    assert _send(receiver, "job.succeeded", padding=LARGEST_BODY) == 413
