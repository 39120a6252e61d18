"""Serves a worker's metrics from a process of its own: the worker forks, and must have no thread or connection to pass on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@contextmanager
def exported_metrics(port: int | None) -> Iterator[None]:
    """Let the processes forked inside share their metrics, and serve them at `port`; null: do neither.

    To be entered before `prometheus_client` is imported. Linux and macOS.
    """
    if port is None:
        yield
        return
    folder = tempfile.mkdtemp(prefix="lustral-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _serve(port, folder, parent)
    try:
        yield
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)


def serve_metrics(port: int, registry: CollectorRegistry) -> None:
    """From a thread of this process. A port that is taken is worth a line, not a process: its work does not depend on being watched."""
    from prometheus_client import start_http_server

    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        sys.stderr.write(f"No metrics are served: port {port}: {error.strerror}.\n")


def _serve(port: int, folder: str, parent: int) -> None:
    """Until the worker stops us, or is gone. Never returns."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker tells us when it is done
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    serve_metrics(port, registry)
    while os.getppid() == parent:
        time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
