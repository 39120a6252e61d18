"""A server as a process that can be taken away and brought back, with its port and its data."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.embedded.processes import start_process, stop_process
from tests.servers.waiting import wait_until_ready


@dataclass
class Server:
    """`probe` raises as long as the server does not answer. `user`: the uid it runs as; None: ours."""

    name: str
    command: Sequence[str | Path]
    log: Path
    probe: Callable[[], object]
    user: int | None = None
    death_signal: signal.Signals = signal.SIGKILL
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._process = start_process(self.command, log=self.log, user=self.user, death_signal=self.death_signal)
        wait_until_ready(self.name, self._process, self.log, self.probe)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            stop_process(self._process, how=how)
