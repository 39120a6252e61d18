"""`python -m tests.scale.costs --out FILE`: what claims, heartbeats, reports, messages and objects cost, on real servers of this machine.

PostgreSQL, Valkey and SeaweedFS from their wheels; one client at a time, so that nothing waits. PostgreSQL does not wait for its disk here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import database_now
from app.jobs import leases
from app.jobs.outbox import ring
from app.settings import Settings
from app.storage import open_store
from tests.servers.postgres import run_postgres
from tests.servers.seaweedfs import run_seaweedfs
from tests.servers.valkey import run_valkey
from tests.worlds.jobs import World, make_world
from workers.broker import make_celery
from workers.relay import BATCH, relay_batch

TICKS = os.sysconf("SC_CLK_TCK")
SHARDS = (16, 128, 1024)
TIMES = 300
OBJECT = 64 * 1024
"""Bytes of an object: about what a checkpoint of a shard has."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.costs", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with run_postgres() as postgres, run_valkey() as valkey, run_seaweedfs() as seaweedfs, seaweedfs.bucket() as bucket:
        with postgres.database() as url, make_world(url) as world:
            found: dict[str, Any] = {"transactions": measure_transactions(world), "message": measure_message(world, valkey.url(1))}
        settings = Settings(
            database_url=url,
            broker_url=valkey.url(1),
            storage_url=f"s3://{bucket}?endpoint={seaweedfs.endpoint_url}",
            s3_access_key_id=seaweedfs.access_key,
            s3_secret_access_key=seaweedfs.secret_key,
            secret_key="0123456789abcdef0123456789abcdef",
        )
        found |= measure_store(settings)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def measure_transactions(world: World) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds from begin to commit, and of the database's own core, by name and number of shards."""
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for shards in SHARDS:
        job_id = world.job("scan", shards=shards)
        steps = [step.id for step in world.steps(job_id, "scan")]
        for name, (work, times) in _transactions(world, steps).items():
            found[name][str(shards)] = _time(world, work, times)
    return found


def _transactions(world: World, steps: list[str]) -> dict[str, tuple[Callable[[Session], object], int]]:
    """What is measured on a fresh job, in this order, and how often. `complete` ends the steps that `claim` has taken."""
    held = world.claimed(steps[0])  # starts the job
    fresh, claimed = iter(steps[1:]), list[leases.Lease]()
    manifest = {"files": [{"path": "lines", "key": "k" * 100, "sha256": "0" * 64, "bytes": OBJECT}]}
    told = {"done": 1, "total": 9, "unit": "samples", "per_second": 1.0}
    last = {**told, "done": 9}

    def claim(session: Session) -> None:
        lease = leases.claim_step(session, next(fresh), worker="worker", lease_seconds=600)
        assert lease is not None
        claimed.append(lease)

    few = min(TIMES, len(steps) - 1)
    return {
        "claim": (claim, few),
        "renew": (lambda session: leases.renew_lease(session, held, lease_seconds=600), TIMES),
        "report": (lambda session: leases.save_progress(session, held, told), TIMES),
        "report for the job": (lambda session: leases.save_progress(session, held, last), TIMES),
        "checkpoint": (lambda session: leases.save_checkpoint(session, held, manifest), TIMES),
        "complete": (lambda session: leases.complete_step(session, claimed.pop(), result={}, outputs=manifest), few),
    }


def measure_message(world: World, broker_url: str) -> float:
    """Seconds of a relay for one message, in full batches."""
    batches = 20
    world.bells()  # empties the outbox
    with world.sessions.begin() as session:
        now = database_now(session)
        for number in range(BATCH * batches):
            ring(session, "run_step", "gpu", f"step_{number:026x}", now=now)
    with make_celery(broker_url, 60) as celery:
        return median(_seconds(lambda: relay_batch(world.sessions, celery)) for _ in range(batches)) / BATCH


def measure_store(settings: Settings) -> dict[str, float]:
    store = open_store(settings)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        path.write_bytes(os.urandom(OBJECT))
        store.put_file("warm", path)
        put = median(_seconds(lambda: store.put_file("measured", path)) for _ in range(100))
        get = median(_seconds(lambda: store.get_file("measured", path)) for _ in range(100))
    return {"put": put, "get": get}


def _time(world: World, work: Callable[[Session], object], times: int) -> dict[str, float]:
    """The median of so many transactions; of the database's time, which the kernel counts in hundredths of a second, the mean."""
    with world.sessions() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    used = _cpu(pid)
    taken = []
    for _ in range(times):
        begun = time.monotonic()
        with world.sessions.begin() as session:
            work(session)
        taken.append(time.monotonic() - begun)
    with world.sessions() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) == pid, "one connection did it all"
    return {"seconds": median(taken), "database": (_cpu(pid) - used) / times}


def _cpu(pid: int | None) -> float:
    """Seconds that the process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _seconds(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


if __name__ == "__main__":
    sys.exit(main())
