"""`lustral bench`: a process of its own does the work, hears of signals, and is never left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest


class TestDefense:
    def test_hands_its_options_on_and_returns_what_came_of_it(self, tmp_path: Path) -> None:
        result = subprocess.run([*_command(tmp_path), "--cells", "moon-*"], capture_output=True, text=True)
        assert result.returncode == 2
        assert "no cell matches 'moon-*'" in result.stderr
        assert not (tmp_path / "rows.jsonl").exists()

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_ends_the_whole_run(self, tmp_path: Path, number: signal.Signals, status: int) -> None:
        with subprocess.Popen(_command(tmp_path), stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert "rows to make on 3 cells" in process.stderr.readline()
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            assert process.wait(30) == status
        assert children
        assert psutil.wait_procs(children, timeout=10)[1] == []


def _command(folder: Path) -> list[str]:
    options = ["--out", str(folder / "rows.jsonl"), "--work", str(folder / "work"), "--methods", "none", "--processes", "1"]
    return [sys.executable, "-m", "app.cli", "bench", "defense", *options]
