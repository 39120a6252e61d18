"""A plugin of pytest: the secrets that tests use are canaries, and the run fails if one of them is found in a log.

Whatever secret a test sends to a server or gets from one is noted: API keys, webhook secrets, credentials, signatures of links.
Logs are those of the servers in this process, of the processes that the suite starts, and of the processes that those start and
that keep their logs below pytest's folder. Each worker of pytest-xdist looks after its own, once its last server has stopped.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest
import structlog

from app.logs import configure_logs

# Shapes of secrets; what a group holds is the secret itself.
_SHAPES = (
    re.compile(rb"(lus_[0-9A-Za-z]{46})"),
    re.compile(rb"whsec_([0-9A-Za-z+/]{43}=)"),
    re.compile(rb"[Ss]ignature=([0-9a-f]{64})"),
)
# The same, as they may stand in a log without what goes before them.
_TRACES = re.compile(rb"lus_[0-9A-Za-z]{46}|[0-9A-Za-z+/]{43}=|[0-9a-f]{64}")
_CREDENTIALS = ("token", "secret_access_key", "session_token")
_SHORTEST = 8  # shorter ones may stand in a log by chance
_TEXT = ("application/json", "application/problem+json")


class Canaries:
    """The secrets in use, and the logs in which none of them may stand."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shaped: set[bytes] = set()
        self._others: set[bytes] = set()
        self._logs: dict[str, BinaryIO] = {}

    def note(self, text: bytes) -> None:
        """Note every secret that has a shape of ours."""
        for shape in _SHAPES:
            self._shaped.update(shape.findall(text))

    def note_exchange(self, request: httpx.Request, response: httpx.Response | None) -> None:
        """Note every secret in a request and, where it was read, its answer."""
        self.note(f"{request.url}\n{request.headers.get('authorization', '')}".encode())
        if request.method == "POST" and request.url.path == "/v1/credentials":
            self._note_credentials(request)
        if response is not None:
            self.note(response.headers.get("location", "").encode())
            if response.is_closed and response.headers.get("content-type", "").startswith(_TEXT):
                self.note(response.content)

    def watch(self, log: Path) -> None:
        """Keep a log at hand, even if it is deleted before the end."""
        if log.is_file() and (name := f"{log} ({log.stat().st_ino})") not in self._logs:
            self._logs[name] = log.open("rb")

    def leaks(self) -> list[str]:
        """Each line of a log that holds a secret, with the log's name."""
        return [f"{name}: {line.decode(errors='replace').strip()}" for name, line in self.lines() if self.holds(line)]

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Every line of every log, with the log's name."""
        for log in self._folder.rglob("*.log"):
            self.watch(log)
        for name, file in self._logs.items():
            file.seek(0)
            for line in file:
                yield name, line

    def holds(self, line: bytes) -> bool:
        """Whether a secret stands in it."""
        return any(trace in self._shaped for trace in _TRACES.findall(line)) or any(secret in line for secret in self._others)

    def close(self) -> None:
        for log in self._logs.values():
            log.close()

    def _note_credentials(self, request: httpx.Request) -> None:
        try:
            body = json.loads(request.content)
        except ValueError:
            return
        if isinstance(body, dict):
            secrets = [body.get(name) for name in _CREDENTIALS]
            self._others.update(secret.encode() for secret in secrets if isinstance(secret, str) and len(secret) >= _SHORTEST)


@pytest.fixture(autouse=True, scope="session")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    """Notes secrets while the tests run. Set up before any server, it is torn down after the last one, and then looks through the logs."""
    folder = tmp_path_factory.getbasetemp()
    noted = Canaries(folder)
    with pytest.MonkeyPatch.context() as patch, (folder / "in-process.log").open("w") as own:
        patch.setattr(httpx.Client, "send", _noting(httpx.Client.send, noted))
        patch.setattr(subprocess.Popen, "__init__", _watching(subprocess.Popen.__init__, noted))
        configure_logs(stream=own)
        root = logging.getLogger()
        [handler] = root.handlers
        yield noted
        root.removeHandler(handler)
        structlog.reset_defaults()
    leaks = noted.leaks()
    noted.close()
    if leaks:
        pytest.fail("Secrets stand in logs:\n" + "\n".join(leaks[:20]), pytrace=False)


def _noting(send: Any, noted: Canaries) -> Any:
    def noting(client: httpx.Client, request: httpx.Request, **options: Any) -> Any:
        response = None
        try:
            return (response := send(client, request, **options))
        finally:
            noted.note_exchange(request, response)

    return noting


def _watching(start: Any, noted: Canaries) -> Any:
    def watching(process: Any, *arguments: Any, **options: Any) -> None:
        start(process, *arguments, **options)
        name = getattr(options.get("stdout"), "name", None)
        if isinstance(name, str) and name.endswith((".log", "/log")):
            noted.watch(Path(name))

    return watching
