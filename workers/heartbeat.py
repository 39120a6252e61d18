"""Keeps a lease while its step runs, and learns why the step must stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.leases import Lease, LeaseLost, renew_lease
from workers import shutdown
from workers.metrics import observe_gpu

log = structlog.get_logger()

# A step that must stop is nudged this often until it does.
NUDGE_EVERY = 0.5


class Stop(Enum):
    """Why a running step must stop; the earlier ones outrank the later ones."""

    LEASE_LOST = 1
    CANCELLED = 2
    SHUTDOWN = 3


class Heartbeat:
    """A thread that renews the lease every `every` seconds, from `__enter__` to `__exit__`.

    Without an answer from the database the lease counts as lost as soon as it must have run out: from then on another
    worker may have the step. That is told by the clock alone, so it holds as well for a heartbeat that hangs or has died.
    """

    def __init__(self, sessions: sessionmaker[Session], lease: Lease, *, lease_seconds: float, every: float) -> None:
        self._sessions = sessions
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._every = every
        self._reason: Stop | None = None
        self._ended = threading.Event()
        self._renewed = self._turn = time.monotonic()
        self._wake: Callable[[], object] | None = None
        self._parent = os.getppid()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{lease.step_id}", daemon=True)

    @property
    def stop(self) -> Stop | None:
        """Why the step must stop, or None while it may go on."""
        if time.monotonic() - self._renewed > self._lease_seconds:
            return Stop.LEASE_LOST
        if self._reason is None and shutdown.requested():
            return Stop.SHUTDOWN
        return self._reason

    @property
    def starved(self) -> bool:
        """Whether the thread should have had a turn long ago: something holds the interpreter."""
        return time.monotonic() - self._turn > 2 * NUDGE_EVERY

    def wake_by(self, wake: Callable[[], object] | None) -> None:
        """Have `wake` called twice a second while the step must stop, until this is called with None."""
        self._wake = wake

    def lose(self) -> None:
        """A write found the lease lost before the heartbeat did."""
        self._reason = Stop.LEASE_LOST

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        renew_at = self._renewed + self._every
        while not self._ended.wait(max(0.0, min(renew_at - time.monotonic(), NUDGE_EVERY))):
            self._turn = time.monotonic()
            if self._turn >= renew_at and self._reason is not Stop.LEASE_LOST:
                self._renew()
                renew_at = time.monotonic() + self._every
            if self.stop is not None and (wake := self._wake) is not None:
                wake()
            if os.getppid() != self._parent:
                # The worker's main process was killed. Nobody would restart or stop this one, so it goes in order.
                shutdown.request()

    def _renew(self) -> None:
        asked = time.monotonic()
        try:
            with self._sessions.begin() as session:
                cancelled = renew_lease(session, self._lease, lease_seconds=self._lease_seconds)
        except LeaseLost:
            self._reason = Stop.LEASE_LOST
        except Exception as error:  # noqa: BLE001  (whatever it is: a heartbeat that dies of it loses the lease for sure)
            log.warning("heartbeat.not_renewed", step_id=self._lease.step_id, error=f"{type(error).__name__}: {error}")
        else:
            self._renewed = asked
            observe_gpu()
            if cancelled:
                self._reason = Stop.CANCELLED
