"""Keeps a lease while its step runs, and learns why the step must stop."""

from __future__ import annotations

import os
import threading
import time
from enum import Enum
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.leases import Lease, LeaseLost, renew_lease
from workers import shutdown
from workers.metrics import observe_gpu

log = structlog.get_logger()


class Stop(Enum):
    """Why a running step must stop; the earlier ones outrank the later ones."""

    LEASE_LOST = 1
    CANCELLED = 2
    SHUTDOWN = 3


class Heartbeat:
    """A thread that renews the lease every `every` seconds, from `__enter__` to `__exit__`.

    Without an answer from the database the lease counts as lost as soon as it must have run out: from then on another
    worker may have the step.
    """

    def __init__(self, sessions: sessionmaker[Session], lease: Lease, *, lease_seconds: float, every: float) -> None:
        self._sessions = sessions
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._every = every
        self._reason: Stop | None = None
        self._ended = threading.Event()
        self._renewed = time.monotonic()
        self._parent = os.getppid()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{lease.step_id}", daemon=True)

    @property
    def stop(self) -> Stop | None:
        """Why the step must stop, or None while it may go on."""
        if self._reason is None and shutdown.requested():
            return Stop.SHUTDOWN
        return self._reason

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
        while not self._ended.wait(self._every):
            self._renew()
            if self._reason is Stop.LEASE_LOST:
                return
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
        except SQLAlchemyError as error:
            log.warning("heartbeat.database_unreachable", step_id=self._lease.step_id, error=str(error))
            if time.monotonic() - self._renewed > self._lease_seconds:
                self._reason = Stop.LEASE_LOST
        else:
            self._renewed = asked
            observe_gpu()
            if cancelled:
                self._reason = Stop.CANCELLED
