"""How to wait for something that every step needs to come back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from app.outages import is_outage
from workers import shutdown

log = structlog.get_logger()

Result = TypeVar("Result")

PATIENCE = 30 * 60.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
# Whoever waits looks this often whether it is still wanted.
LOOK_EVERY = 0.5
# A worker that is asked to go waits no longer than this for anything.
LEAVE_AFTER = 5.0


def ride_out(work: Callable[[], Result], *, check: Callable[[], None] = lambda: None, patience: float = PATIENCE) -> Result:
    """What `work` returns, tried again for `patience` seconds as long as something it needs is away.

    For what must not be lost: an hour's result is not thrown away because a store was away for a minute. `work` may be done twice.

    Raises:
        Whatever `work` raises that is no outage, or the outage itself once the patience is over or this worker must go;
        whatever `check` raises while waiting.
    """
    begun, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return work()
        except Exception as error:
            if not is_outage(error) or time.monotonic() - begun > patience or shutdown.seconds_ago() > LEAVE_AFTER:
                raise
            log.warning("outage.waiting", error=f"{type(error).__name__}: {error}", pause=pause)
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0:
            check()
            time.sleep(min(left, LOOK_EVERY))
        pause = min(pause * 2, LONGEST_PAUSE)
