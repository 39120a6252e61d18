"""Workers are killed, told to go, and robbed of their messages while they work. The job's result stays the same."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from app.embedded.processes import start_process, stop_process
from app.jobs.tables import StepRow
from tests.chaos.steps import HALF, UNITS
from tests.gpu_jobs.data.builders import png
from tests.servers.hub import Hub, Repository
from tests.worlds.jobs import World, make_world

pytestmark = pytest.mark.chaos

PATIENCE = 60.0


@dataclass
class Fleet:
    """A relay and workers, as processes of their own."""

    world: World
    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_relay(self) -> None:
        self._start("workers.relay")

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("tests.chaos.steps", "--processes", "2")

    def wait_for(self, what: str, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, f"waited in vain for {what}; the log ends with\n{self.log.read_text()[-5000:]}"
            time.sleep(0.05)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def control(self) -> Path:
        return self.folder / "control"

    def let_go_on(self) -> None:
        (self.control / "go-on").touch()

    def purify_to_the_middle(self) -> str:
        """A job whose two purify shards are half-way, with that much saved. Returns its id."""
        job_id = self.world.job("purify", shards=2)
        for shard in range(2):
            self.wait_for(f"shard {shard} to be half-way", (self.control / f"half-way-{shard}").exists)
        self.wait_for("both to be saved", lambda: all(self._saved_units(step) > HALF for step in self.world.steps(job_id, "purify")))
        return job_id

    def _saved_units(self, step: StepRow) -> int:
        """Units in the step's checkpoint; none of one that was replaced, and its files deleted, after the row was read."""
        files = (step.checkpoint or {"files": []})["files"]
        try:
            return sum((self.folder / "objects" / "objects" / file["key"]).read_text().count("\n") for file in files)
        except FileNotFoundError:
            return 0

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        process = start_process([sys.executable, "-m", module, *arguments], log=self.log, env=self.environment)
        self.processes.append(process)
        return process


ON_SQLITE = pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("fleet", ["postgresql"], indirect=True)
ON_BOTH = pytest.mark.parametrize("fleet", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path, broker_url: str) -> Iterator[Fleet]:
    url = f"sqlite:///{tmp_path / 'lustral.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    (tmp_path / "control").mkdir()
    environment = {
        **os.environ,
        "LUSTRAL_DATABASE_URL": url,
        "LUSTRAL_BROKER_URL": broker_url,
        "LUSTRAL_STORAGE_URL": f"file://{tmp_path / 'objects'}",
        "LUSTRAL_SECRET_KEY": "0123456789abcdef0123456789abcdef",
        "LUSTRAL_WORK_DIR": str(tmp_path / "work"),
        "LUSTRAL_LEASE_SECONDS": "3",
        "LUSTRAL_HEARTBEAT_SECONDS": "0.3",
        "CHAOS_CONTROL": str(tmp_path / "control"),
    }
    with make_world(url) as world:
        made = Fleet(world, tmp_path, environment)
        made.start_relay()
        yield made
        for process in reversed(made.processes):
            stop_process(process, how=signal.SIGKILL)


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def assert_finished_once(fleet: Fleet, job_id: str) -> None:
    fleet.wait_for("the job to end", lambda: fleet.world.get(job_id).finished_at)
    job = fleet.world.get(job_id)
    assert job.status == "succeeded", job.error
    assert job.result == {"units": [list(range(UNITS))] * 2}, "each unit once, in order"


@ON_BOTH
def test_kill_9_in_the_middle_of_purification_loses_nothing(fleet: Fleet) -> None:
    worker = fleet.start_worker()
    job_id = fleet.purify_to_the_middle()
    os.killpg(worker.pid, signal.SIGKILL)
    fleet.let_go_on()
    fleet.start_worker()
    assert_finished_once(fleet, job_id)
    for step in fleet.world.steps(job_id, "purify"):
        assert step.attempt == 2
        assert step.result is not None
        assert step.result["resumed_from"] > HALF, "it did not begin again from nothing"


@ON_SQLITE
def test_kill_9_of_one_process_leaves_the_others_at_work(fleet: Fleet) -> None:
    worker = fleet.start_worker()
    job_id = fleet.purify_to_the_middle()
    os.kill(children_of(worker)[0], signal.SIGKILL)
    fleet.let_go_on()
    assert_finished_once(fleet, job_id)
    assert sorted(step.attempt for step in fleet.world.steps(job_id, "purify")) == [1, 2]


@ON_SQLITE
def test_orphans_of_a_killed_main_process_hand_back_and_leave(fleet: Fleet) -> None:
    worker = fleet.start_worker()
    job_id = fleet.purify_to_the_middle()
    orphans = children_of(worker)
    os.kill(worker.pid, signal.SIGKILL)
    fleet.wait_for("the orphans to leave", lambda: not any(map(is_alive, orphans)))
    fleet.let_go_on()
    fleet.start_worker()
    assert_finished_once(fleet, job_id)


@ON_POSTGRESQL
def test_a_worker_that_is_told_to_go_saves_and_hands_back(fleet: Fleet) -> None:
    worker = fleet.start_worker()
    job_id = fleet.purify_to_the_middle()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert {step.status for step in fleet.world.steps(job_id, "purify")} == {"ready"}
    assert {step.max_attempts - step.attempt for step in fleet.world.steps(job_id, "purify")} == {3}, "no attempt was lost"
    fleet.let_go_on()
    fleet.start_worker()
    assert_finished_once(fleet, job_id)


@ON_POSTGRESQL
def test_a_flushed_broker_delays_and_changes_nothing(fleet: Fleet) -> None:
    job_id = fleet.world.job("purify", shards=2)
    broker = redis.Redis.from_url(fleet.environment["LUSTRAL_BROKER_URL"])
    fleet.wait_for("the bells to be rung", lambda: broker.llen("gpu"))
    broker.flushdb()
    broker.close()
    fleet.let_go_on()
    fleet.start_worker()
    fleet.world.pass_time(ring_again_at=timedelta(minutes=2))
    assert_finished_once(fleet, job_id)


def _kill(fleet: Fleet, worker: subprocess.Popen[bytes]) -> None:
    os.killpg(worker.pid, signal.SIGKILL)


def _freeze(fleet: Fleet, worker: subprocess.Popen[bytes]) -> None:
    os.killpg(worker.pid, signal.SIGSTOP)


def _deafen(fleet: Fleet, worker: subprocess.Popen[bytes]) -> None:
    (fleet.control / "deaf").touch()
    for shard in range(2):
        fleet.wait_for("the steps to hear nothing any more", (fleet.control / f"deaf-{shard}").exists)


@pytest.mark.parametrize("befalls", [None, _deafen, _freeze, _kill], ids=["at work", "busy", "frozen", "killed"])
@ON_BOTH
def test_a_cancelled_job_is_over_within_five_seconds_whatever_its_worker_does(
    fleet: Fleet, befalls: Callable[[Fleet, subprocess.Popen[bytes]], None] | None
) -> None:
    for setting in ("LUSTRAL_LEASE_SECONDS", "LUSTRAL_HEARTBEAT_SECONDS"):
        del fleet.environment[setting]  # as operators have it
    worker = fleet.start_worker()
    job_id = fleet.purify_to_the_middle()
    if befalls is not None:
        befalls(fleet, worker)
    begun = time.monotonic()
    fleet.world.cancel(job_id)
    assert fleet.world.get(job_id).status == "cancelling"
    fleet.wait_for("the job to be cancelled", lambda: fleet.world.get(job_id).status == "cancelled")
    assert time.monotonic() - begun < 5
    assert {step.status for step in fleet.world.steps(job_id)} == {"succeeded", "cancelled"}


@ON_BOTH
def test_kill_9_in_the_middle_of_fetching_loses_nothing_that_had_arrived(fleet: Fleet, hub: Hub) -> None:
    rows = [{"id": "1", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\n?"}, {"from": "gpt", "value": "x"}]}]
    files = {"a.png": png("red"), "rows.json": json.dumps(rows).encode(), **{f"{number:02}.png": png("blue") for number in range(40)}}
    hub.repositories["datasets/lab/set"] = Repository(files)
    hub.held = {"rows.json"}
    fleet.environment["LUSTRAL_HUGGINGFACE_ENDPOINT"] = hub.endpoint
    worker = fleet.start_worker()
    dataset_id = fleet.world.dataset(status="inspecting", source={"type": "huggingface", "repo_id": "lab/set", "revision": "main"})
    step_id = fleet.world.inspect(dataset_id)
    fleet.wait_for("the last file to be half-way", hub.reached.is_set)
    arrived = {file["path"] for file in (fleet.world.step(step_id).checkpoint or {})["files"]}
    assert len(arrived) >= 32
    os.killpg(worker.pid, signal.SIGKILL)
    hub.held.clear()
    hub.released.set()
    fleet.start_worker()
    fleet.wait_for("the data set to be ready", lambda: fleet.world.subject(dataset_id).status != "inspecting")
    dataset = fleet.world.subject(dataset_id)
    assert dataset.status == "ready", dataset.findings
    assert fleet.world.step(step_id).attempt == 2
    assert {path for path in arrived if hub.downloads[path] > 1} == set(), "what had arrived was not fetched again"
    assert {file["path"]: file["sha256"] for file in dataset.files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in files.items()
    }
