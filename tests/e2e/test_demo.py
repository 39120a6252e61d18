"""`lustral demo`, interrupted. That it comes to its end is what `make demo` shows, and all it does is tested beside this."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_process_behind(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "app.cli", "demo", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "is ready" in line:
                break
        family = [psutil.Process(demo.pid), *psutil.Process(demo.pid).children(recursive=True)]
        assert len(family) > 5
        demo.send_signal(how)
        demo.stdout.read()
        assert demo.wait(timeout=60) == 128 + how
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
