"""Children end with those who started them, whichever way that is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.embedded.processes import start_process, stop_process

ROOT = Path(__file__).parents[3]
HAS_A_CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def test_stopping_a_process_ends_its_children_too(tmp_path: Path) -> None:
    process = start_process([sys.executable, "-c", HAS_A_CHILD], log=tmp_path / "log")
    family = [psutil.Process(process.pid)]
    while len(family) < 2:
        family = [family[0], *family[0].children(recursive=True)]
    stop_process(process)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_a_process_that_will_not_end_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start_process([sys.executable, "-c", IGNORES_SIGTERM], log=log)
    while "ready" not in log.read_text():
        assert process.poll() is None
    assert stop_process(process, grace=0.2) == -9


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from app.embedded.processes import start_process
print(start_process(["sleep", "60"], log=Path({str(tmp_path / "log")!r})).pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(timeout=10)


def test_its_output_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    start_process([sys.executable, "-c", "import sys; print('out'); sys.stdout.flush(); print('error', file=sys.stderr)"], log=log).wait()
    assert log.read_text() == "before\nout\nerror\n"
