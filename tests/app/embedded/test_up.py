"""`lustral up` as its user meets it: one command, started, watched, wounded and stopped."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from app.embedded.folder import DataFolder
from app.provenance.keys import SigningKey


@dataclass
class Up:
    """A running `lustral up`."""

    process: subprocess.Popen[str]
    folder: DataFolder
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:\d+", "".join(self.said))
        assert found
        return found[0]

    def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if text in line:
                return
        raise AssertionError(f"it ended before it said {text!r}: {''.join(self.said)}")

    def family(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]

    def service(self, *words: str) -> psutil.Process:
        """The direct child with these words in its command line."""
        [found] = [child for child in psutil.Process(self.process.pid).children() if all(word in child.cmdline() for word in words)]
        return found


Start = Callable[[Path], Up]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(data: Path) -> Up:
        command = [sys.executable, "-m", "app.cli", "up", "--data-dir", str(data), "--port", "0"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return Up(started[-1], DataFolder(data))

    yield start
    for process in started:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def up(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Up:
    """One that every test may use and none may end."""
    running = start(tmp_path_factory.mktemp("up") / "data")
    running.read_until("Ctrl-C")
    return running


def test_prints_where_it_is_and_the_first_key(up: Up) -> None:
    [key] = re.findall(r"lus_\w+", "".join(up.said))
    assert key == up.folder.api_key()
    assert up.folder.running() == {"url": up.url, "pid": up.process.pid}
    httpx.get(f"{up.url}/v1/jobs", headers={"Authorization": f"Bearer {key}"}).raise_for_status()
    assert httpx.get(f"{up.url}/readyz").json()["status"] == "ready"


def test_a_second_one_on_the_same_folder_is_refused(up: Up, start: Start) -> None:
    second = start(up.folder.root)
    second.read_until(f"and listens on {up.url}")
    assert second.process.wait() == 2


def test_a_port_that_is_taken_is_named(up: Up, tmp_path: Path) -> None:
    port = up.url.rpartition(":")[2]
    command = [sys.executable, "-m", "app.cli", "up", "--data-dir", str(tmp_path / "data"), "--port", port]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == f"lustral: Cannot listen on port {port}: Address already in use. Choose another by --port.\n"


def test_a_killed_service_comes_back_and_its_callers_wait_meanwhile(up: Up) -> None:
    api = up.service("app.embedded.api")
    api.kill()
    assert httpx.get(f"{up.url}/healthz", timeout=60).is_success
    up.read_until("api was ended by SIGKILL; starting it again")
    assert up.service("app.embedded.api").pid != api.pid
    worker = up.service("workers", "gpu")
    worker.kill()
    up.read_until("worker-gpu was ended by SIGKILL")
    deadline = time.monotonic() + 10
    while not [child for child in up.family() if child.pid != worker.pid and child.is_running() and "gpu" in child.cmdline()]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_stopped_it_leaves_its_data_and_no_process(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    first.read_until("Ctrl-C")
    headers = {"Authorization": f"Bearer {first.folder.api_key()}"}
    created = httpx.post(f"{first.url}/v1/keys", headers=headers, json={"name": "kept"}).json()
    signing_key = httpx.get(f"{first.url}/v1/signing-key", headers=headers).json()
    family = first.family()
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(timeout=60) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert first.folder.running() is None

    second = start(tmp_path / "data")
    second.read_until("Ctrl-C")
    assert "First API key" not in "".join(second.said)
    assert httpx.get(f"{second.url}/v1/keys/{created['id']}", headers=headers).json()["name"] == "kept"
    assert signing_key["public_key"].encode() == SigningKey.from_file(second.folder.signing_key).public.pem
    assert httpx.get(f"{second.url}/v1/signing-key", headers=headers).json() == signing_key


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_killed_it_leaves_no_process(start: Start, tmp_path: Path) -> None:
    up = start(tmp_path / "data")
    up.read_until("Ctrl-C")
    family = up.family()
    up.process.kill()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
