"""How fast a large file goes up, and what the API holds of it: `python -m tests.bench.upload --out F`.

Lustral's client through signed links and a bare boto3 upload take turns on the same SeaweedFS, with parts of the same size and
as many at a time, each time with other bytes. The API is a process of its own, whose memory is looked at twenty times a second.
Seconds are told by the clock and of processor time, of client, API, database and store together: on a machine that does other
things too, the latter says more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from boto3.s3.transfer import TransferConfig

from app.auth.service import bootstrap
from app.client.transport import Transport
from app.client.uploads import PARALLEL_PARTS, PART_SIZE, upload_file
from app.embedded.processes import start_process, stop_process
from app.migrate import upgrade
from app.runtime import Runtime
from app.settings import Settings
from tests.servers.ports import free_ports
from tests.servers.postgres import run_postgres
from tests.servers.seaweedfs import SeaweedFS, run_seaweedfs
from tests.servers.waiting import wait_until_ready

MIB = 1024 * 1024
LOOK_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class Api:
    url: str
    key: str
    process: psutil.Process


@dataclass(slots=True)
class Memory:
    """Resident bytes of a process: before, and at most while something ran."""

    before: int
    most: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """By the clock and by all the processors used up to then, in seconds."""

    clock: float
    processor: float

    @classmethod
    def now(cls) -> Moment:
        us = psutil.Process()
        spent = [process.cpu_times() for process in (us, *us.children(recursive=True))]
        return cls(time.perf_counter(), sum(times.user + times.system for times in spent))

    def since(self, before: Moment) -> Moment:
        return Moment(self.clock - before.clock, self.processor - before.processor)


@dataclass(frozen=True, slots=True)
class Round:
    """sent: from the first look at the file until its last byte is in the store; verified: until the API has read it back."""

    boto3: Moment
    sent: Moment
    verified: Moment
    memory: Memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=2048 * MIB)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lustral-bench-") as folder, run_seaweedfs() as s3, s3.bucket() as bucket:
        small, path = Path(folder) / "warm-up", Path(folder) / "weights.safetensors"
        _write(small, 4 * PART_SIZE)
        _write(path, options.bytes)
        with _run_api(s3, bucket, Path(folder)) as api:
            _measure(api, s3, bucket, small)
            rounds = [_measure(api, s3, bucket, path) for _ in range(options.rounds)]
    report = _report(options.bytes, rounds)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    json.dump({name: value for name, value in report.items() if name != "rounds"}, sys.stdout, indent=2)
    print()  # noqa: T201


def _measure(api: Api, s3: SeaweedFS, bucket: str, path: Path) -> Round:
    _change(path)
    key = secrets.token_hex(8)
    client = s3.client()
    config = TransferConfig(multipart_threshold=PART_SIZE, multipart_chunksize=PART_SIZE, max_concurrency=PARALLEL_PARTS)
    began = Moment.now()
    client.upload_file(str(path), bucket, key, Config=config)
    boto3 = Moment.now().since(began)
    client.delete_object(Bucket=bucket, Key=key)

    left, sent = path.stat().st_size, began

    def advance(count: int) -> None:
        nonlocal left, sent
        left -= count
        if left == 0:
            sent = Moment.now()

    transport = Transport(api.url, api.key)
    with _watched(api.process) as memory:
        began = Moment.now()
        upload_id = upload_file(transport, path, advance)
        verified = Moment.now()
    transport.call("DELETE", f"/v1/uploads/{upload_id}")
    transport.close()
    return Round(boto3, sent.since(began), verified.since(began), memory)


@contextmanager
def _run_api(s3: SeaweedFS, bucket: str, folder: Path) -> Iterator[Api]:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with run_postgres() as postgres, postgres.database() as database_url:
        environment = {
            "LUSTRAL_DATABASE_URL": database_url,
            "LUSTRAL_BROKER_URL": "redis://127.0.0.1:1/0",  # nothing here rings
            "LUSTRAL_STORAGE_URL": f"s3://{bucket}?endpoint={s3.endpoint_url}&region={s3.region}",
            "LUSTRAL_S3_ACCESS_KEY_ID": s3.access_key,
            "LUSTRAL_S3_SECRET_ACCESS_KEY": s3.secret_key,
            "LUSTRAL_SECRET_KEY": secrets.token_hex(32),
            "LUSTRAL_PUBLIC_URL": url,
        }
        upgrade(database_url)
        fields = {name.removeprefix("LUSTRAL_").lower(): value for name, value in environment.items()}
        runtime = Runtime.open(Settings.model_validate(fields))
        with runtime.write.begin() as session:
            key = bootstrap(session, runtime.signer).key
        runtime.close()
        log = folder / "api.log"
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app", "--port", str(port)]
        process = start_process(command, log=log, env={**os.environ, **environment})
        try:
            wait_until_ready("API", process, log, lambda: httpx.get(f"{url}/healthz").raise_for_status())
            yield Api(url, key, psutil.Process(process.pid))
        finally:
            stop_process(process)


@contextmanager
def _watched(process: psutil.Process) -> Iterator[Memory]:
    memory = Memory(process.memory_info().rss)
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            memory.most = max(memory.most, process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def _write(path: Path, size: int) -> None:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
        file.write(block[: size % MIB])


def _change(path: Path) -> None:
    """Other bytes, so that neither side meets a file it knows."""
    with path.open("r+b") as file:
        file.write(secrets.token_bytes(16))


def _report(size: int, rounds: list[Round]) -> dict[str, Any]:
    def speed(moment: Callable[[Round], Moment]) -> float:
        return round(size / MIB / statistics.median(moment(one).clock for one in rounds), 1)

    return {
        "bytes": size,
        "part_size": PART_SIZE,
        "parallel_parts": PARALLEL_PARTS,
        "boto3_mib_per_second": speed(lambda one: one.boto3),
        "sent_mib_per_second": speed(lambda one: one.sent),
        "verified_mib_per_second": speed(lambda one: one.verified),
        "speed_of_boto3": round(statistics.median(one.boto3.clock / one.sent.clock for one in rounds), 3),
        "speed_of_boto3_by_processor": round(statistics.median(one.boto3.processor / one.sent.processor for one in rounds), 3),
        "api_rss_before_mib": round(rounds[0].memory.before / MIB, 1),
        "api_rss_most_mib": round(max(one.memory.most for one in rounds) / MIB, 1),
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores for client, API and store together",
        "python": platform.python_version(),
        "rounds": [asdict(one) for one in rounds],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
