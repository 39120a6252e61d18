"""A job's events as they happen, over any number of connections."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx
from httpx_sse import EventSource

from app.client.errors import ApiError
from app.client.transport import Transport

FINAL_EVENTS = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
_SILENCE = 60.0
_GIVE_UP = 300.0
PAUSE = 1.0
"""Seconds before a lost connection is opened again."""


def follow_events(transport: Transport, job_id: str, after: str | None = None) -> Iterator[dict[str, Any]]:
    """Every event of a job from the first, or the one past `after`, to its last. Ends with the job.

    A lost connection is opened again where it broke off, so no event is missed and none comes twice.

    Raises:
        ApiError: the server refused.
        httpx.TransportError: it was out of reach for five minutes.
    """
    last_heard = time.monotonic()
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        try:
            with transport.stream(f"/v1/jobs/{job_id}/events", headers, patience=_SILENCE) as response:
                if response.status_code == HTTPStatus.NO_CONTENT:  # nothing happened since, and nothing will
                    return
                for message in EventSource(response).iter_sse():
                    last_heard = time.monotonic()
                    after = message.id or after
                    if not message.data:
                        continue
                    event: dict[str, Any] = json.loads(message.data)
                    yield event
                    if event["type"] in FINAL_EVENTS:
                        return
        except (httpx.TransportError, ApiError) as error:
            refused = isinstance(error, ApiError) and error.status < 500
            if refused or time.monotonic() - last_heard > _GIVE_UP:
                raise
        time.sleep(PAUSE)
