"""`lustral up`: API, relay, workers and broker on one machine, until Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.embedded import services
from app.embedded.folder import DataFolder
from app.embedded.supervisor import Service, Supervisor

Say = Callable[[str], object]
_LONGEST_SOCKET_PATH = 100  # the kernel allows 107 bytes, macOS 103
_READY_WITHIN = 60.0


class StartFailed(Exception):
    """The service did not come up. The message says why, and what would help."""


def run_until_stopped(folder: DataFolder, port: int, say: Say) -> None:
    """Everything in the foreground. Returns after SIGINT, SIGTERM or SIGHUP, with no process left.

    port: 0 takes any free one.

    Raises:
        app.embedded.folder.FolderInUse: another one works in this folder.
        StartFailed: the port is taken, or the API does not answer.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())

    def say_ended(service: Service, status: int) -> None:
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        say(f"{service.name} {how}; starting it again. Its log: {service.log}")

    with folder.hold(), _listen(port) as listener, _socket_path(folder) as broker_socket, Supervisor(say_ended) as supervisor:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        folder.make_signing_key()
        os.environ.update(services.settings_of(folder, url, broker_socket))
        supervisor.start(services.broker(folder, broker_socket))
        fresh_key = _prepare_database(folder)
        for service in (services.api(folder, listener), services.relay(folder), *services.workers(folder)):
            supervisor.start(service)
        _wait_until_ready(url, supervisor, stopping, folder)
        if not stopping.is_set():
            folder.announce(url)
            say(_welcome(url, folder, fresh_key))
        while not stopping.wait(0.2):
            supervisor.look()
        say("Stopping …")


def _prepare_database(folder: DataFolder) -> str | None:
    """Bring the schema up to date. Returns the first API key if this call made it."""
    from app.auth.service import bootstrap
    from app.migrate import upgrade
    from app.runtime import Runtime
    from app.settings import load_settings

    upgrade(folder.database_url)
    if folder.api_key() is not None:
        return None
    runtime = Runtime.open(load_settings())
    with runtime.write.begin() as session:
        key = bootstrap(session, runtime.signer).key
    runtime.close()
    folder.keep_api_key(key)
    return key


def _wait_until_ready(url: str, supervisor: Supervisor, stopping: threading.Event, folder: DataFolder) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while not stopping.wait(0.05):
        supervisor.look()
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5.0)
        except httpx.TransportError as error:
            state = str(error)
        else:
            if answer.is_success:
                return
            state = answer.text
        if time.monotonic() > deadline:
            raise StartFailed(f"The API did not become ready within {_READY_WITHIN:.0f} s ({state}). Its log: {folder.log_of('api')}")


@contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server(("127.0.0.1", port), backlog=256)
    except OSError as error:
        raise StartFailed(f"Cannot listen on port {port}: {os.strerror(error.errno or 0)}. Choose another by --port.") from error
    with listener:
        yield listener


@contextmanager
def _socket_path(folder: DataFolder) -> Iterator[Path]:
    """Where the broker listens: in the data folder, or in a temporary one where that path is too long for a socket."""
    path = folder.work / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        path.unlink(missing_ok=True)
        yield path
        return
    scratch = Path(tempfile.mkdtemp(prefix="lustral-"))
    try:
        yield scratch / "valkey.sock"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _welcome(url: str, folder: DataFolder, fresh_key: str | None) -> str:
    lines = [f"Lustral listens on {url} (documentation: {url}/docs)", f"Data and logs: {folder.root}"]
    if fresh_key:
        lines += [
            "",
            f"First API key: {fresh_key}",
            f"The command line on this machine finds it in {folder.root / 'api-key'}.",
            "",
        ]
    return "\n".join([*lines, "Ctrl-C stops everything."])
