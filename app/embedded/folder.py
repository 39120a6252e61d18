"""The data folder of the embedded profile: everything one machine's service keeps, and who holds it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict


class FolderInUse(Exception):
    """Another `lustral up` works in this folder."""


class RunningServer(TypedDict):
    """What a running service tells other processes of its user."""

    url: str
    pid: int


def default_folder() -> Path:
    """`LUSTRAL_DATA_DIR`, or `lustral` in the user's data folder as the XDG specification places it."""
    if chosen := os.environ.get("LUSTRAL_DATA_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "lustral"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths below `root`. All of it is readable by its owner only."""

    root: Path

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.root / 'lustral.db'}"

    @property
    def storage_url(self) -> str:
        return (self.root / "objects").as_uri()

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log_of(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Make the folder if need be, and keep every other `lustral up` out of it.

        Raises:
            FolderInUse: another one is in it; the message says where it listens.
        """
        for folder in (self.root, self.logs, self.work):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                running = self.running()
                where = f" and listens on {running['url']}" if running else ""
                raise FolderInUse(
                    f"Another `lustral up` uses {self.root}{where}. Stop it, or name another folder by --data-dir."
                ) from error
            try:
                yield
            finally:
                self._server.unlink(missing_ok=True)

    def secret_key(self) -> str:
        """The key that signs links and keys of this folder, made on first use."""
        path = self.root / "secret-key"
        if not path.exists():
            _write_private(path, secrets.token_urlsafe(48))
        return path.read_text()

    def credential_key(self) -> str:
        """The key that closes tenants' credentials in this folder, made on first use."""
        path = self.root / "credential-key"
        if not path.exists():
            _write_private(path, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        return path.read_text()

    @property
    def signing_key(self) -> Path:
        """Where the private key lies that signs what jobs hand out; nothing until the first start."""
        return self.root / "signing-key.pem"

    def make_signing_key(self) -> None:
        """Make the key on the first start. An operator's own may be put there before."""
        if not self.signing_key.exists():
            from app.provenance.keys import SigningKey

            _write_private(self.signing_key, SigningKey.generate().pem.decode())

    def api_key(self) -> str | None:
        """The first API key, for the command line on this machine; None until one was made."""
        path = self.root / "api-key"
        return path.read_text() if path.exists() else None

    def keep_api_key(self, key: str) -> None:
        _write_private(self.root / "api-key", key)

    def announce(self, url: str) -> None:
        """Let other processes of this user find the service."""
        _write_private(self._server, json.dumps(RunningServer(url=url, pid=os.getpid())))

    def running(self) -> RunningServer | None:
        """The service that works in this folder and is ready, if there is one."""
        try:
            server: RunningServer = json.loads(self._server.read_text())
            with (self.root / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except OSError:
            return server
        return None  # nobody holds the lock: what is written there was left by one that was killed

    @property
    def _server(self) -> Path:
        return self.root / "server.json"


def _write_private(path: Path, text: str) -> None:
    """The file appears whole, and nobody else could read it at any moment."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
