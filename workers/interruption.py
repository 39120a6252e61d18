"""Stops a step where it never looks whether it must, and gives the heartbeat a turn where nothing else would.

A step reports often, and each report tells it to stop. Between two reports it may read a large archive, wait for a store that
does not answer, or match a tenant's regular expression that takes longer than the universe: Python lets no other thread run
meanwhile, so the heartbeat would starve and the lease run out. But signals come through: the pattern matcher, the interpreter
and every wait look for them.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

import structlog

from workers.heartbeat import Heartbeat, Stop

log = structlog.get_logger()

# A timer of processor time: it ticks while something computes, and costs nothing while a step waits.
SIGNAL = signal.SIGVTALRM
TICK_SECONDS = 0.2
# A starved heartbeat gets a turn this long, so often: it may as well wait for a database that is away, which must not slow the step.
TURN_SECONDS = 0.1
TURN_EVERY = 0.2
# How long a step may take to notice by itself that it must stop.
GRACE = {Stop.LEASE_LOST: 0.5, Stop.CANCELLED: 0.5, Stop.SHUTDOWN: 10.0}


class Interrupted(BaseException):
    """The step did not stop by itself. No `Exception`, because what sets bad samples aside must not set this aside.

    It may have struck in the middle of anything, an import too: the process must run no other step.
    """


class Interruption:
    """Raises `Interrupted` in the main thread once the step has had its grace, again and again until the block is left.

    saving: while it is true, a worker that is asked to go is left to save its checkpoint.
    Does nothing in other threads than the main one, which alone gets signals; a worker process runs its steps there.
    """

    def __init__(self, heartbeat: Heartbeat, *, saving: Callable[[], bool] = lambda: False) -> None:
        self._heartbeat = heartbeat
        self._saving = saving
        self._stop: Stop | None = None
        self._noticed = self._turn_due = 0.0
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        if self._main:
            signal.signal(SIGNAL, self._tick)
            signal.setitimer(signal.ITIMER_VIRTUAL, TICK_SECONDS, TICK_SECONDS)
            self._heartbeat.wake_by(lambda: signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._main:
            self._main = False
            self._heartbeat.wake_by(None)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            signal.signal(SIGNAL, signal.SIG_IGN)  # not the default, by which a signal that is on its way would end the process

    def _tick(self, _signal: int, frame: FrameType | None) -> None:
        if not self._main or (frame is not None and frame.f_code is Interruption.__exit__.__code__):
            return
        if self._heartbeat.starved and time.monotonic() >= self._turn_due:
            time.sleep(TURN_SECONDS)
            self._turn_due = time.monotonic() + TURN_EVERY
        stop, now = self._heartbeat.stop, time.monotonic()
        if stop is not self._stop:
            self._stop, self._noticed = stop, now
        if stop is None or now - self._noticed < GRACE[stop] or (stop is Stop.SHUTDOWN and self._saving()):
            return
        log.warning("step.interrupted", reason=stop.name.lower())
        raise Interrupted(f"the step did not stop by itself: {stop.name.lower().replace('_', ' ')}")
