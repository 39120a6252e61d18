"""What can go wrong, each as a context: what is done on entering happens before jobs are submitted, the rest while they run.

Every fault ends with the world in order again, and raises if it did not come to pass (`NotMet`: the jobs were over before).
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import psutil
import redis
from sqlalchemy import select

from app.jobs.tables import StepRow
from app.webhooks.tables import DeliveryRow
from tests.chaos.cluster import LEASE_SECONDS, Cluster
from tests.chaos.points import MEMORY, Armed, Fate, Point
from tests.chaos.proxy import S3Fault
from tests.chaos.receiver import Absence
from workers.broker import QUEUES, make_celery


class NotMet(Exception):
    """The jobs ended before anything came by the armed point, or asked what was to fail."""


@dataclass
class Scene:
    """What a fault acts on: jobs and data sets are filled in once it may begin."""

    cluster: Cluster
    rng: random.Random
    outage_seconds: float
    """How long PostgreSQL is away at most."""
    ids: list[str]

    def moment(self) -> None:
        """Let the jobs run for a moment."""
        self.cluster.pause(self.rng.uniform(0, 0.8))

    def until(self, what: str, happened: Callable[[], object]) -> None:
        """Wait for something that only running jobs bring about.

        Raises:
            NotMet: they are over.
        """
        cluster = self.cluster
        cluster.wait_for(what, lambda: happened() or cluster.is_over(self.ids))
        if not happened():
            raise NotMet(what)


Fault = Callable[[Scene], AbstractContextManager[None]]


def _at(point: Point, fate: Fate) -> Fault:
    @contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        armed = scene.cluster.points.arm(point, fate)
        try:
            yield
            scene.until(f"somebody to come by {point}", lambda: armed.pid() is not None)
            if fate == "freeze":
                _thaw(scene, armed)
            elif fate == "hog":
                _kill_for_memory(scene, armed)
        finally:
            armed.disarm()

    return fault


def _thaw(scene: Scene, armed: Armed) -> None:
    """Let the frozen process go on after its lease is over and others have gone on without it."""
    pid = armed.pid()
    assert pid is not None
    try:
        scene.cluster.pause(LEASE_SECONDS + scene.rng.uniform(0.5, 2.5))
    finally:
        with suppress(ProcessLookupError):  # another fault may have killed it meanwhile
            os.kill(pid, signal.SIGCONT)


def _kill_for_memory(scene: Scene, armed: Armed) -> None:
    """What the kernel does to the largest process."""
    pid = armed.pid()
    assert pid is not None
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        scene.cluster.wait_for("it to take its memory", lambda: psutil.Process(pid).memory_info().rss > MEMORY)
        os.kill(pid, signal.SIGKILL)


@contextmanager
def _broker_flushed(scene: Scene) -> Iterator[None]:
    yield
    scene.moment()
    scene.cluster.broker.flushall()


@contextmanager
def _broker_restarted(scene: Scene) -> Iterator[None]:
    yield
    scene.moment()
    scene.cluster.valkey.server.stop(signal.SIGKILL)
    scene.cluster.pause(scene.rng.uniform(0, 1.5))
    scene.cluster.valkey.server.start()


@contextmanager
def _database_restarted(scene: Scene) -> Iterator[None]:
    yield
    scene.moment()
    scene.cluster.postgres.server.stop(signal.SIGQUIT)
    scene.cluster.postgres.server.start()


@contextmanager
def _database_away(scene: Scene) -> Iterator[None]:
    """While a worker is inside a step, so that it is heartbeats that fail."""
    yield
    scene.until("a worker to be inside a step", scene.cluster.busy)
    scene.cluster.postgres.server.stop(signal.SIGQUIT)
    scene.cluster.pause(scene.outage_seconds)
    scene.cluster.postgres.server.start()


def _store(kind: S3Fault) -> Fault:
    @contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        store = scene.cluster.store
        store.suffered.clear()
        store.plan.extend([kind] * scene.rng.randint(3, 12))
        try:
            yield
            scene.until(f"a request to be {kind}", lambda: store.suffered)
            scene.until("the store to be well again", lambda: not store.plan)
        finally:
            store.plan.clear()

    return fault


@contextmanager
def _receiver_away(scene: Scene) -> Iterator[None]:
    kinds: list[Absence] = ["error", "refused", "unheard"]
    scene.cluster.receiver.plan.extend(scene.rng.choices(kinds, k=6))
    yield
    scene.cluster.wait_for("the receiver to be back", lambda: not scene.cluster.receiver.plan)


@contextmanager
def _messages_duplicated(scene: Scene) -> Iterator[None]:
    """Every step and delivery there is, whatever its state, is announced again and again, in any order."""
    yield
    cluster = scene.cluster
    with make_celery(cluster.settings.broker_url, LEASE_SECONDS) as celery:
        for _ in range(3):
            with cluster.world.sessions() as session:
                steps = session.execute(select(StepRow.id, StepRow.queue).where(StepRow.subject_id.in_(scene.ids))).all()
                deliveries = session.scalars(select(DeliveryRow.id)).all()
            messages = [("run_step", id, queue) for id, queue in steps for _ in range(2)]
            messages += [("deliver_webhook", id, "io") for id in scene.rng.sample(deliveries, min(10, len(deliveries)))]
            scene.rng.shuffle(messages)
            for topic, id, queue in messages:
                celery.send_task(topic, args=[id], queue=queue)
            cluster.pause(0.3)


@contextmanager
def _messages_reordered(scene: Scene) -> Iterator[None]:
    yield
    cluster = scene.cluster
    for _ in range(10):
        for queue in QUEUES:
            waiting = _take_all(cluster.broker, queue)
            scene.rng.shuffle(waiting)
            if waiting:
                cluster.broker.lpush(queue, *waiting)
        cluster.pause(0.15)


def _take_all(broker: redis.Redis, queue: str) -> list[bytes]:
    messages = []
    while (message := broker.rpop(queue)) is not None:
        assert isinstance(message, bytes)
        messages.append(message)
    return messages


@contextmanager
def _workers_told_to_go(scene: Scene) -> Iterator[None]:
    """As in a deployment: SIGTERM to every process, one after the other."""
    yield
    scene.moment()
    for name in scene.rng.sample(list(scene.cluster.processes), 2):
        scene.cluster.processes[name].send_signal(signal.SIGTERM)
        scene.moment()


FAULTS: Mapping[str, Fault] = {
    "kill -9 of a process: claimed": _at("claimed", "kill"),
    "kill -9 of a process: mid-batch": _at("mid-batch", "kill"),
    "kill -9 of a process: outputs-stored": _at("outputs-stored", "kill"),
    "kill -9 of a process: committed": _at("committed", "kill"),
    "kill -9 of a process: checkpoint-stored": _at("checkpoint-stored", "kill"),
    "kill -9 of a process: webhook-sent": _at("webhook-sent", "kill"),
    "kill -9 of a whole worker: claimed": _at("claimed", "kill-group"),
    "kill -9 of a whole worker: mid-batch": _at("mid-batch", "kill-group"),
    "kill -9 of a whole worker: outputs-stored": _at("outputs-stored", "kill-group"),
    "kill -9 of a relay: about-to-publish": _at("about-to-publish", "kill"),
    "kill -9 of a relay: published": _at("published", "kill"),
    "frozen past the lease: claimed": _at("claimed", "freeze"),
    "frozen past the lease: mid-batch": _at("mid-batch", "freeze"),
    "frozen past the lease: outputs-stored": _at("outputs-stored", "freeze"),
    "frozen past the lease: webhook-sent": _at("webhook-sent", "freeze"),
    "out of memory": _at("mid-batch", "hog"),
    "disk full: mid-batch": _at("mid-batch", "disk-full"),
    "disk full: staging": _at("staging", "disk-full"),
    "broker flushed": _broker_flushed,
    "broker restarted": _broker_restarted,
    "database restarted": _database_restarted,
    "database away during heartbeats": _database_away,
    "store unavailable": _store("unavailable"),
    "store slow": _store("slow"),
    "store truncates": _store("truncated"),
    "store refuses": _store("refused"),
    "receiver away": _receiver_away,
    "messages duplicated": _messages_duplicated,
    "messages reordered": _messages_reordered,
    "processes told to go": _workers_told_to_go,
}
