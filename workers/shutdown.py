"""Whether this process was asked to go. Set by a signal in the main process, seen by every process forked from it."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

_requested: Any = multiprocessing.get_context("fork").Value("d", 0.0, lock=False)


def request() -> None:
    """Ask the steps of all processes of this worker to save what they have and stop."""
    if not _requested.value:
        _requested.value = time.monotonic()


def requested() -> bool:
    return bool(_requested.value)


def seconds_ago() -> float:
    """Seconds since the request (the monotonic clock is the same in all processes of a machine); 0 before it."""
    return time.monotonic() - _requested.value if _requested.value else 0.0


def forget() -> None:
    """As if nothing had been asked."""
    _requested.value = 0.0
