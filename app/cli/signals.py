"""Signals that ask a command to end, as exceptions, so that it can put away what it started."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def end_in_order() -> None:
    """Ctrl-C raises KeyboardInterrupt, SIGTERM and SIGHUP raise SystemExit.

    SIGINT is set too, because a shell without job control starts background processes with it ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
