"""Python that is killed in the middle of what it does."""

from __future__ import annotations

import signal
import subprocess
import sys


def run_until_killed(code: str) -> None:
    """Run `code` in a process of its own, to the place where it calls `kill()`: there it meets SIGKILL."""
    kill = "def kill(*_, **__):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    ended = subprocess.run([sys.executable, "-c", kill + code], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
