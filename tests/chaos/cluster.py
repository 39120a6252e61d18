"""The production set-up with several workers and relays, kept running while its parts are killed."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from sqlalchemy import func, select, text

from app.auth.tables import TenantRow
from app.db import database_now, make_engine, make_session_factory
from app.embedded.processes import start_process, stop_process
from app.ids import new_id
from app.jobs.tables import OutboxRow, StepRow
from app.migrate import upgrade
from app.settings import Settings
from app.signing import Signer
from app.webhooks.secrets import secret_of
from app.webhooks.tables import DeliveryRow, WebhookRow
from gpu_jobs.config import JobParameters
from tests.chaos.points import Points
from tests.chaos.processes import hurry
from tests.chaos.proxy import Proxy, run_proxy
from tests.chaos.receiver import Receiver, run_receiver
from tests.gpu_jobs.data.builders import png
from tests.servers.hub import Hub, Repository, run_hub
from tests.servers.postgres import Postgres, run_postgres
from tests.servers.seaweedfs import run_seaweedfs
from tests.servers.valkey import Valkey, run_valkey
from tests.worlds.jobs import World
from workers.context import Context, make_context
from workers.sweeper import OVER

PATIENCE = 90.0
LEASE_SECONDS = 2.0
HEARTBEAT_SECONDS = 0.25
SHARDS = 2
MAX_ATTEMPTS = JobParameters().max_attempts

# By how many seconds each process's clock is ahead. S3 refuses signatures that are a quarter of an hour off, so that is the limit.
CLOCKS = {"worker-a": 0, "worker-b": 600, "relay-a": 0, "relay-b": -600}

# Every change of a status, as the database saw it: of a job, and of the steps of a job or data set. No process of ours knows that it is
# watched.
HISTORY = """
CREATE TABLE chaos_history (number bigserial PRIMARY KEY, id text, subject_id text, before text, after text, attempt int);
CREATE FUNCTION chaos_note_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_history (id, subject_id, before, after) VALUES (new.id, new.id, old.status, new.status); RETURN new; END $$;
CREATE FUNCTION chaos_note_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_history (id, subject_id, before, after, attempt) VALUES (new.id, new.subject_id, old.status, new.status, new.attempt);
    RETURN new; END $$;
CREATE TRIGGER chaos AFTER UPDATE ON jobs FOR EACH ROW WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION chaos_note_job();
CREATE TRIGGER chaos AFTER UPDATE ON steps FOR EACH ROW
    WHEN (old.status IS DISTINCT FROM new.status OR new.attempt < old.attempt) EXECUTE FUNCTION chaos_note_step();
"""


@dataclass
class Cluster:
    world: World
    postgres: Postgres
    valkey: Valkey
    broker: redis.Redis
    store: Proxy
    receiver: Receiver
    hub: Hub
    points: Points
    settings: Settings
    context: Context
    """As a worker's, but past the proxy: for looking at what is stored, and for sweeping."""
    folder: Path
    environment: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def submit(self) -> str:
        """A new job of eight steps; returns its id."""
        return self.world.job("purify", shards=SHARDS, max_attempts=MAX_ATTEMPTS)

    def submit_dataset(self) -> str:
        """A new data set that has to be fetched and inspected; returns its id. No other has bytes that it has."""
        name = f"datasets/lab/{secrets.token_hex(8)}"
        rows = [
            {
                "id": colour,
                "image": f"{colour}.png",
                "conversations": [{"from": "human", "value": "<image>\n?"}, {"from": "gpt", "value": name}],
            }
            for colour in ("red", "green", "blue")
        ]
        pictures = {f"{row['id']}.png": png(str(row["id"])) + name.encode() for row in rows}
        self.hub.repositories[name] = Repository({"rows.json": json.dumps(rows).encode(), **pictures})
        source = {"type": "huggingface", "repo_id": name.removeprefix("datasets/"), "revision": "main"}
        dataset_id = self.world.dataset(status="inspecting", source=source)
        step_id = self.world.inspect(dataset_id)
        with self.world.sessions.begin() as session:
            session.get_one(StepRow, step_id).max_attempts = MAX_ATTEMPTS
        return dataset_id

    def submit_poison(self) -> str:
        """A new job whose steps kill the process that runs them."""
        job_id = new_id("job")
        (self.points.folder / f"poison-{job_id}").touch()
        return self.world.job("purify", shards=SHARDS, max_attempts=3, job_id=job_id)

    def keep_running(self) -> None:
        """Start what is not running, as `restart: unless-stopped` does."""
        for name, ahead in CLOCKS.items():
            process = self.processes.get(name)
            if process is not None:
                if process.poll() is None:
                    continue
                stop_process(process)  # and what is left of its children
            role, _, _ = name.partition("-")
            command = [sys.executable, "-m", "tests.chaos.processes", role, *(["--processes", "2"] if role == "worker" else [])]
            environment = {**self.environment, "CHAOS_CLOCK": str(ahead)}
            self.processes[name] = start_process(command, log=self.folder / f"{name}.log", env=environment)

    def wait_for(self, what: str, happened: Callable[[], object], *, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self.last_words()}"
            self.keep_running()
            time.sleep(0.05)

    def pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.keep_running()
            time.sleep(0.02)

    def is_over(self, ids: list[str]) -> bool:
        return all((self.world.get(id) if id.startswith("job_") else self.world.subject(id)).status in OVER for id in ids)

    def settle(self, ids: list[str]) -> None:
        """Wait until jobs and data sets are over, everybody who is owed a message has it, and no process is inside a step."""
        self.wait_for("the jobs to end", lambda: self.is_over(ids))
        self.wait_for("the messages to arrive", lambda: not self.count(DeliveryRow, DeliveryRow.status == "pending"))
        self.wait_for("the outbox to be empty", lambda: not self.count(OutboxRow, OutboxRow.topic != "sweep"))
        self.wait_for("the workers to come to rest", lambda: not any(map(_is_alive, self.busy())))

    def busy(self) -> list[int]:
        """Processes that are inside a step: each has a scratch folder there."""
        return [int(folder.name.partition("-")[0]) for folder in (self.folder / "work" / "scratch").glob("*-*")]

    def count(self, table: type, *where: object) -> int:
        with self.world.sessions() as session:
            return session.scalar(select(func.count()).select_from(table).where(*where)) or 0  # type: ignore[arg-type]

    def last_words(self) -> str:
        logs = {name: (self.folder / f"{name}.log").read_text(errors="replace")[-3000:] for name in CLOCKS}
        return "\n".join(f"--- {name}\n{words}" for name, words in logs.items())


def _is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@contextmanager
def run_cluster(folder: Path) -> Iterator[Cluster]:
    """Servers of its own, as they will be taken away from it."""
    with ExitStack() as stack:
        postgres, valkey = stack.enter_context(run_postgres(keeps_commits=True)), stack.enter_context(run_valkey())
        seaweedfs = stack.enter_context(run_seaweedfs())
        store, receiver = stack.enter_context(run_proxy(seaweedfs.endpoint_url)), stack.enter_context(run_receiver())
        hub = stack.enter_context(run_hub())
        url, bucket = stack.enter_context(postgres.database()), stack.enter_context(seaweedfs.bucket())
        points = Points(folder / "control")
        environment = {
            "LUSTRAL_DATABASE_URL": url,
            "LUSTRAL_BROKER_URL": valkey.url(1),
            "LUSTRAL_STORAGE_URL": f"s3://{bucket}?endpoint={store.endpoint}",
            "LUSTRAL_S3_ACCESS_KEY_ID": seaweedfs.access_key,
            "LUSTRAL_S3_SECRET_ACCESS_KEY": seaweedfs.secret_key,
            "LUSTRAL_SECRET_KEY": "0123456789abcdef0123456789abcdef",
            "LUSTRAL_WORK_DIR": str(folder / "work"),
            "LUSTRAL_LEASE_SECONDS": str(LEASE_SECONDS),
            "LUSTRAL_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "LUSTRAL_ALLOW_PRIVATE_WEBHOOKS": "true",
            "LUSTRAL_HUGGINGFACE_ENDPOINT": hub.endpoint,
        }
        settings = _settings(environment)
        upgrade(url)
        engine = make_engine(url)
        stack.callback(engine.dispose)
        with engine.begin() as connection:
            connection.execute(text(HISTORY))
        world = World(make_session_factory(engine))
        hurry()
        receiver.secret = _populate(world, receiver.url, Signer.of(settings))
        past_the_proxy = settings.model_copy(
            update={"storage_url": f"s3://{bucket}?endpoint={seaweedfs.endpoint_url}", "work_dir": folder / "own-work"}
        )
        context = make_context(past_the_proxy)
        stack.callback(context.runtime.close)
        broker = stack.enter_context(redis.Redis.from_url(valkey.url(1)))
        environment = {**os.environ, **environment, "CHAOS_CONTROL": str(folder / "control")}
        cluster = Cluster(world, postgres, valkey, broker, store, receiver, hub, points, settings, context, folder, environment)
        try:
            cluster.keep_running()
            yield cluster
        finally:
            for process in cluster.processes.values():
                stop_process(process, how=signal.SIGKILL)


def _settings(environment: Mapping[str, str]) -> Settings:
    return Settings(**{name.removeprefix("LUSTRAL_").lower(): value for name, value in environment.items()})  # type: ignore[arg-type]


def _populate(world: World, receiver_url: str, signer: Signer) -> str:
    """One tenant with one webhook; returns the secret that its messages are signed with."""
    with world.sessions.begin() as session:
        session.add(TenantRow(id=world.tenant_id, name="default", created_at=database_now(session)))
    webhook_id = world.webhook(["*"], url=receiver_url)
    with world.sessions() as session:
        return secret_of(signer, session.get_one(WebhookRow, webhook_id))
