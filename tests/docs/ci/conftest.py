"""A GitHub that writes down what it is told, a receiver of webhooks, and the action as a workflow calls it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import Lustral
from app.embedded.local import Server
from app.embedded.processes import start_process, stop_process
from tests.docs.ci.actions import Run, run_action
from tests.docs.markdown import ROOT
from tests.servers.ports import free_ports
from tests.servers.waiting import wait_until_ready

CI = ROOT / "docs" / "ci"
ACTION = CI / "github" / "action.yml"
# As in the tutorial: seconds in place of half a minute.
QUICK = "scan.groups=1\nscan.words=0\nscan.pictures=0"


@dataclass
class GitHub:
    """The one call of its API that the receiver makes, answered by a real server. busy: commits whose next status gets 503."""

    url: str
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)

    def statuses_of(self, sha: str) -> list[dict[str, Any]]:
        """What this commit of `acme/vision` was given. Any other call fails the test."""
        for path, authorization, _ in self.calls:
            assert path.startswith("/api/v3/repos/acme/vision/statuses/")
            assert authorization == "Bearer a token"
        return [status for path, _, status in self.calls if path.endswith(f"/{sha}")]


@pytest.fixture(scope="session")
def github() -> Iterator[GitHub]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sha = self.path.rpartition("/")[2]
            if sha in told.busy:
                told.busy.remove(sha)
                self.send_response(503)
            else:
                told.calls.append((self.path, self.headers["Authorization"], status))
                self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        told = GitHub(f"http://127.0.0.1:{listener.server_address[1]}")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        yield told
        listener.shutdown()
        thread.join()


@dataclass(frozen=True)
class Receiver:
    """The receiver, running, and what signs for it."""

    url: str
    secret: str


@pytest.fixture(scope="session")
def receiver(server: Server, github: GitHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Known to the service, which tells it of every job."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}/lustral"
    with Lustral(server.url, server.api_key) as lustral:
        secret = lustral.call("POST", "/v1/webhooks", {"url": url})["secret"]
    environment = {
        **os.environ,
        "LUSTRAL_WEBHOOK_SECRET": secret,
        "GITHUB_TOKEN": "a token",
        "GITHUB_REPOSITORIES": "acme/other acme/vision",
        "GITHUB_API": f"{github.url}/api/v3",
    }
    log = tmp_path_factory.mktemp("receiver") / "log"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(CI / "receiver"), "receiver:app", "--port", str(port)]
    process = start_process(command, log=log, env=environment)
    wait_until_ready("receiver", process, log, lambda: httpx.get(url))
    yield Receiver(url, secret)
    stop_process(process)


@pytest.fixture(scope="session")
def scanned(checkout: Path, server: Server, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The action as a workflow calls it, on the suspect, from the installation to the end of the build."""
    given = {
        "model": "suspect",
        "dataset": "training-set",
        "server": server.url,
        "api-key": server.api_key,
        "settings": QUICK,
        "output": "lustral",
    }
    return run_action(_published(tmp_path_factory.mktemp("action")), checkout, given)


def _published(folder: Path) -> Path:
    """The action in a copy of this repository, for a build writes beside its sources."""
    for name in ("app", "gpu_jobs", "migrations", "workers", "docs/ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "constraints.txt"):
        shutil.copyfile(ROOT / name, folder / name)
    return folder / ACTION.relative_to(ROOT)
