"""The API on both profiles. One server serves many tests; each brings tenants of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from app.settings import Settings
from tests.servers.postgres import Postgres
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.valkey import Valkey
from tests.worlds.api import PART, Server, Tenant, run_server

SECRET = "a secret that only this test run knows"
CREDENTIAL_KEY = Fernet.generate_key().decode()


@pytest.fixture(scope="session", params=["embedded", "production"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, valkey: Valkey) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    with valkey.database() as broker_url:
        common: dict[str, Any] = {"broker_url": broker_url, "secret_key": SECRET, "part_size": PART, "credential_keys": CREDENTIAL_KEY}
        if request.param == "embedded":
            addresses = {"database_url": f"sqlite:///{folder / 'lustral.db'}", "storage_url": f"file://{folder / 'objects'}"}
            with run_server(
                Settings.model_validate({**common, **addresses, "allow_loopback_webhooks": True, "allow_loopback_sources": True})
            ) as running:
                yield running
            return
        postgres: Postgres = request.getfixturevalue("postgres")
        seaweedfs: SeaweedFS = request.getfixturevalue("seaweedfs")
        with postgres.database() as database_url, seaweedfs.bucket() as bucket:
            addresses = {
                "database_url": database_url,
                "storage_url": f"s3://{bucket}?endpoint={seaweedfs.endpoint_url}&region={seaweedfs.region}",
                "s3_access_key_id": seaweedfs.access_key,
                "s3_secret_access_key": seaweedfs.secret_key,
            }
            with run_server(Settings.model_validate({**common, **addresses})) as running:
                yield running


@pytest.fixture
def tenant(server: Server) -> Iterator[Tenant]:
    with server.new_tenant() as somebody:
        yield somebody


@pytest.fixture
def stranger(server: Server) -> Iterator[Tenant]:
    """Another customer of the same server."""
    with server.new_tenant() as somebody:
        yield somebody
