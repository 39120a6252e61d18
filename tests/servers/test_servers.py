"""The servers behave as the real ones where a lenient stand-in would hide a mistake, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from botocore.exceptions import ClientError

from tests.servers.postgres import Postgres
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.valkey import Valkey


class TestPostgres:
    def test_refuses_a_wrong_password(self, postgres: Postgres) -> None:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(postgres.dsn().replace("only-for-tests", "wrong"))

    def test_every_test_gets_an_empty_database(self, postgres: Postgres) -> None:
        with postgres.database() as first, postgres.database() as second:
            assert first != second


class TestValkey:
    def test_refuses_a_wrong_password(self, valkey: Valkey) -> None:
        with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(valkey.url().replace("only-for-tests", "wrong")) as client:
            client.ping()

    def test_a_database_is_empty_again_afterwards(self, valkey: Valkey) -> None:
        with valkey.database() as url, redis.Redis.from_url(url) as client:
            client.set("key", "value")
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 0


class TestSeaweedFS:
    def test_refuses_a_wrong_secret(self, seaweedfs: SeaweedFS, bucket: str) -> None:
        stranger = SeaweedFS(seaweedfs.endpoint_url, secret_key="wrong")
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            stranger.client().put_object(Bucket=bucket, Key="key", Body=b"value")

    def test_serves_ranges(self, seaweedfs: SeaweedFS, bucket: str) -> None:
        client = seaweedfs.client()
        client.put_object(Bucket=bucket, Key="key", Body=b"0123456789")
        answer = client.get_object(Bucket=bucket, Key="key", Range="bytes=2-4")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["Body"].read() == b"234"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
@pytest.mark.parametrize("server", ["postgres", "valkey", "seaweedfs"])
def test_no_server_outlives_a_killed_test_run(server: str) -> None:
    program = f"""
import time
from tests.servers.{server} import run_{server}
with run_{server}():
    print("ready", flush=True)
    time.sleep(60)
"""
    with tempfile.TemporaryDirectory(prefix="lustral-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL enters it as another user
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": folder}, cwd=Path(__file__).parents[2]
        ) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == b"ready\n"
            children = psutil.Process(run.pid).children(recursive=True)
            run.kill()
    assert children
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
