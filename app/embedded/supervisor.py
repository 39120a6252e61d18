"""Keeps a handful of child processes running until told to stop."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from app.embedded.processes import start_process, stop_process

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
LASTING = 30.0
"""A process that lived this many seconds starts over with the first pause when it ends."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process to keep running, in our own environment. `grace`: seconds it gets to end by itself before it is killed."""

    name: str
    command: Sequence[str | Path]
    log: Path
    grace: float = 10.0
    pass_fds: Sequence[int] = ()


@dataclass(slots=True)
class _Child:
    service: Service
    process: subprocess.Popen[bytes]
    started: float
    pause: float = FIRST_PAUSE
    restart_at: float | None = field(default=None)


class Supervisor:
    """Starts services in order, restarts each that ends (after 0.2 s, then twice as long each time).

    At the end all are stopped together, but for the one that was started first: the others may need it to leave in order.

    Use as a context manager; call `look` a few times a second.
    """

    def __init__(self, on_end: Callable[[Service, int], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        """on_end: told of every service that ended unasked, with its exit status."""
        self._children: list[_Child] = []
        self._on_end = on_end
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        first, rest = self._children[:1], self._children[1:]
        for child in rest:
            if child.process.poll() is None:
                child.process.terminate()
        for child in rest:
            stop_process(child.process, how=None, grace=child.service.grace)
        for child in first:
            stop_process(child.process, grace=child.service.grace)

    def start(self, service: Service) -> None:
        self._children.append(_Child(service, _launch(service), self._clock()))

    def look(self) -> None:
        """Restart what ended and has waited long enough."""
        now = self._clock()
        for child in self._children:
            status = child.process.poll()
            if status is None:
                continue
            if child.restart_at is None:
                stop_process(child.process)  # its own children, if it left any
                self._on_end(child.service, status)
                if now - child.started >= LASTING:
                    child.pause = FIRST_PAUSE
                child.restart_at = now + child.pause
                child.pause = min(LONGEST_PAUSE, child.pause * 2)
            elif now >= child.restart_at:
                child.process, child.started, child.restart_at = _launch(child.service), now, None


def _launch(service: Service) -> subprocess.Popen[bytes]:
    return start_process(service.command, log=service.log, pass_fds=service.pass_fds)
