"""What is an outage, and what a client is told while something is away that its request needs: to come again, and when."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import httpx2
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from huggingface_hub.errors import HfHubHTTPError
from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.db import make_engine
from app.outages import is_outage
from app.settings import Settings
from tests.worlds.api import Server, Tenant, expect, expect_problem, run_server

STORE = "http://store.internal"
UPLOAD = {"filename": "file.bin", "bytes": 3}
STORE_FAULTS = [
    ReadTimeoutError(endpoint_url=STORE),
    ConnectTimeoutError(endpoint_url=STORE),
    ConnectionClosedError(endpoint_url=STORE),
    EndpointConnectionError(endpoint_url=STORE),
    ResponseParserError("an answer that broke off"),
    ClientError({"Error": {"Code": "InternalError"}}, "ListParts"),
    ClientError({"Error": {"Code": "SlowDown"}}, "ListParts"),
]


def from_hub(status: int) -> HfHubHTTPError:
    return HfHubHTTPError("no", response=httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co/api")))


OUTAGES = [
    *STORE_FAULTS,
    *map(from_hub, (408, 429, 500, 503)),
    OperationalError("SELECT", {}, Exception("server closed the connection")),
    DBAPIError("SELECT", {}, Exception("terminating connection"), connection_invalidated=True),
    InternalError("INSERT", {}, ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")),
    PoolTimeout("QueuePool limit reached"),
    httpx.ConnectError("refused"),
    ConnectionResetError(),
    socket.gaierror(),
    OSError(errno.ENOSPC, "No space left on device"),
]
FAULTS = [
    *map(from_hub, (400, 404, 416)),
    RuntimeError("bug"),
    ValueError(),
    OSError("no number"),
    FileNotFoundError(errno.ENOENT, "no such file"),
    IntegrityError("INSERT", {}, Exception("twice")),
    InternalError("SELECT", {}, Exception("current transaction is aborted")),
]


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
def test_what_may_pass_is_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_what_was_done_wrong_is_none(error: Exception) -> None:
    assert not is_outage(error)


def expect_outage(answer: httpx.Response, what: str) -> None:
    problem = expect_problem(answer, 503)
    assert what in problem["detail"]
    assert STORE not in answer.text
    assert int(answer.headers["retry-after"]) > 0


class TestStore:
    @pytest.mark.parametrize("fault", STORE_FAULTS, ids=repr)
    def test_away_while_an_upload_is_looked_at(
        self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, fault: Exception
    ) -> None:
        url = f"/v1/uploads/{tenant.announce(b'data')['id']}"

        def fail(*_: object) -> None:
            raise fault

        with monkeypatch.context() as patched:
            patched.setattr(server.runtime.store, "list_parts", fail)
            expect_outage(tenant.get(url), "object store")
        expect(tenant.get(url), 200)

    def test_away_while_an_upload_is_begun_or_deleted(self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"/v1/uploads/{tenant.announce(b'data')['id']}"

        def fail(*_: object, **__: object) -> None:
            raise STORE_FAULTS[0]

        with monkeypatch.context() as patched:
            patched.setattr(server.runtime.store, "start_multipart", fail)
            patched.setattr(server.runtime.store, "abort_multipart", fail)
            expect_outage(tenant.post("/v1/uploads", json=UPLOAD), "object store")
            expect_outage(tenant.delete(url), "object store")
        assert tenant.delete(url).status_code == 204


@pytest.fixture
def on_postgres(postgres_url: str, broker_url: str, tmp_path: Path) -> Iterator[Server]:
    """An API whose database ends transactions that ask for nothing for a tenth of a second."""
    settings = {
        "database_url": postgres_url,
        "database_idle_seconds": 0.1,
        "broker_url": broker_url,
        "storage_url": f"file://{tmp_path / 'objects'}",
        "secret_key": "s" * 32,
    }
    with run_server(Settings.model_validate(settings)) as server:
        yield server


class TestDatabase:
    def test_that_ends_a_connection_over_an_idle_transaction(
        self, on_postgres: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where the store takes long while a transaction waits for it."""
        watching = make_engine(postgres_url)
        idle = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")

        def dawdle(*_: object, **__: object) -> str:
            with watching.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
                while watcher.execute(idle).scalar_one():
                    time.sleep(0.02)
            return "late"

        with on_postgres.new_tenant() as tenant:
            with monkeypatch.context() as patched:
                patched.setattr(on_postgres.runtime.store, "start_multipart", dawdle)
                expect_outage(tenant.post("/v1/uploads", json=UPLOAD), "database")
            expect(tenant.post("/v1/uploads", json=UPLOAD), 201)
        watching.dispose()

    def test_that_takes_no_writes_is_still_read(self, on_postgres: Server) -> None:
        """A standby, or a server that has become one."""
        with on_postgres.new_tenant() as tenant:
            with on_postgres.runtime.engine.begin() as connection:
                name = connection.execute(text("SELECT current_database()")).scalar_one()
                connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
            on_postgres.runtime.engine.dispose()
            expect(tenant.get("/v1/uploads"), 200)
            expect_outage(tenant.post("/v1/uploads", json=UPLOAD), "database")

    def test_whose_connections_are_all_taken(self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        def wait(*_: object) -> None:
            raise PoolTimeout("QueuePool limit of size 10 overflow 20 reached")

        with monkeypatch.context() as patched:
            patched.setattr("app.uploads.endpoints.list_owned", wait)
            expect_outage(tenant.get("/v1/uploads"), "database")
        expect(tenant.get("/v1/uploads"), 200)
