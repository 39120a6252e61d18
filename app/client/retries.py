"""Which failures pass by themselves, and how long a client waits for that."""

from __future__ import annotations

import random
import time

import httpx

from app.client.errors import ApiError

ATTEMPTS = 8
PATIENCE = 60.0
"""Seconds within which something is tried again. A wait that would end later is not begun."""
_FIRST_PAUSE, _LONGEST_PAUSE, _JITTER = 0.1, 10.0, 1.0
_MAY_PASS = frozenset({429, 502, 503, 504})


class Retries:
    """The attempts at one thing. Says nothing anywhere: addresses may be signed, and standard output is the program's."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = time.monotonic() + PATIENCE

    def wait_after(self, error: ApiError | httpx.TransportError) -> bool:
        """Sleep until it may be tried again, for as long as the server asks. False, at once: that is of no use, or not any more."""
        self._failures += 1
        pause = min(_FIRST_PAUSE * 2 ** (self._failures - 1) + random.uniform(0, _JITTER), _LONGEST_PAUSE)  # noqa: S311
        if isinstance(error, ApiError):
            if error.status not in _MAY_PASS:
                return False
            pause = pause if error.retry_after is None else error.retry_after
        if self._failures == ATTEMPTS or time.monotonic() + pause > self._until:
            return False
        time.sleep(pause)
        return True
