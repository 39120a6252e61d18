"""Child processes that never outlive the process that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def start_process(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    user: int | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, so that Ctrl-C reaches only us and we stop children in our order.

    log: both output streams are appended to it.
    env: the child's whole environment; None passes ours on.
    pass_fds: open files that the child inherits under the same numbers.
    user: run as this uid and gid (needs root).
    death_signal: what the kernel sends the child when the thread that started it is gone, even by kill -9 (Linux only).
    """

    def die_with_parent() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:
                os.kill(os.getpid(), death_signal)

    parent = os.getpid()
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
            pass_fds=pass_fds,
            user=user,
            group=user,
            extra_groups=None if user is None else (),
            # Runs between fork and exec; safe because callers start processes from a single-threaded moment or need only prctl.
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )


def stop_process(process: subprocess.Popen[bytes], *, how: signal.Signals | None = signal.SIGTERM, grace: float = 10.0) -> int:
    """Ask the process to end, wait up to `grace` seconds, then kill whatever is left of its session. Returns its exit status.

    how: None where it was asked already.
    """
    if process.poll() is None:
        if how is not None:
            process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()
