"""What every test may ask for: real servers, each started once by the first test that needs it, and fresh room on them."""

from __future__ import annotations

import os

# Before torch is imported anywhere: two threads on a busy machine run several times slower than one.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.servers.hub import Hub, run_hub
from tests.servers.otlp import run_collector
from tests.servers.postgres import Postgres, run_postgres
from tests.servers.seaweedfs import SeaweedFS, run_seaweedfs
from tests.servers.valkey import Valkey, run_valkey
from tests.worlds.compose import Production, run_compose
from tests.worlds.jobs import World, make_world

pytest_plugins = ["tests.canaries", "pytester"]


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """A key or an address in the caller's environment must not change what is tested."""
    for name in [name for name in os.environ if name.startswith("LUSTRAL_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with run_valkey() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    with run_seaweedfs() as server:
        yield server


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hugging Face hub without repositories."""
    with run_hub() as server:
        yield server


@pytest.fixture(scope="session")
def production(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """All services of docker-compose.yml. Tests receive webhooks on this machine, and do not wait a minute to see a worker die."""
    extra = {"LUSTRAL_ALLOW_PRIVATE_WEBHOOKS": "true", "LUSTRAL_LEASE_SECONDS": "6", "LUSTRAL_HEARTBEAT_SECONDS": "1"}
    with run_collector() as collector, run_compose(postgres, collector, tmp_path_factory.mktemp("compose"), **extra) as running:
        yield running


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """SQLAlchemy URL of an empty PostgreSQL database."""
    with postgres.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLAlchemy URL of an empty database, of each kind in turn."""
    return f"sqlite:///{tmp_path / 'lustral.db'}" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with make_world(database_url) as made:
        yield made


@pytest.fixture
def broker_url(valkey: Valkey) -> Iterator[str]:
    """Redis URL of an empty Valkey database."""
    with valkey.database() as url:
        yield url


@pytest.fixture
def bucket(seaweedfs: SeaweedFS) -> Iterator[str]:
    """Name of an empty bucket on `seaweedfs`."""
    with seaweedfs.bucket() as name:
        yield name


@dataclass(frozen=True)
class Profile:
    """Where state lives: on one machine's disk, or on the servers of a production set-up. The broker is a real Valkey in both."""

    name: Literal["embedded", "production"]
    database_url: str
    broker_url: str
    data_dir: Path
    s3: SeaweedFS | None = None
    bucket: str | None = None


@pytest.fixture(params=["embedded", "production"])
def profile(request: pytest.FixtureRequest, tmp_path: Path, broker_url: str) -> Profile:
    """The test runs twice: against SQLite and a folder, and against PostgreSQL and SeaweedFS."""
    if request.param == "embedded":
        return Profile("embedded", f"sqlite:///{tmp_path / 'lustral.db'}", broker_url, tmp_path)
    return Profile(
        "production",
        request.getfixturevalue("postgres_url"),
        broker_url,
        tmp_path,
        request.getfixturevalue("seaweedfs"),
        request.getfixturevalue("bucket"),
    )
