"""The embedded service as a child of another program: for `lustral defend` without a server, and for the demo."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.folder import DataFolder
from app.embedded.processes import start_process, stop_process
from app.embedded.up import StartFailed


@dataclass(frozen=True, slots=True)
class Server:
    """An address and a key for it."""

    url: str
    api_key: str


@contextmanager
def run_embedded(root: Path) -> Iterator[Server]:
    """`lustral up` on a free port in the folder `root`, stopped at the end, and also when this process is killed.

    Raises:
        StartFailed: it did not come up.
    """
    folder = DataFolder(root.resolve())
    with tempfile.TemporaryDirectory(prefix="lustral-up-") as scratch:
        said = Path(scratch) / "said"
        command = [sys.executable, "-m", "app.cli", "up", "--data-dir", str(folder.root), "--port", "0"]
        process = start_process(command, log=said, death_signal=signal.SIGTERM)
        try:
            yield _when_ready(folder, process, said)
        finally:
            # It waits for its workers, which save their progress first.
            stop_process(process, grace=40.0)


def _when_ready(folder: DataFolder, process: subprocess.Popen[bytes], said: Path) -> Server:
    while process.poll() is None:
        running, key = folder.running(), folder.api_key()
        if running and key and running["pid"] == process.pid:
            return Server(running["url"], key)
        time.sleep(0.05)
    raise StartFailed(said.read_text(errors="replace").strip() or f"`lustral up` ended with status {process.returncode}")
