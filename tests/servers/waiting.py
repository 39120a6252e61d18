"""Waiting for a server to serve."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def wait_until_ready(name: str, process: subprocess.Popen[bytes], log: Path, probe: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Call `probe` until it raises nothing: clients raise errors of many types while their server starts.

    Raises:
        RuntimeError: the process ended or the time is over; the message carries the end of its log.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            probe()
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
                state = "is not ready" if process.poll() is None else f"ended with status {process.returncode}"
                raise RuntimeError(f"{name} {state}: {error}\n{tail}") from error
            time.sleep(0.05)
        else:
            return
