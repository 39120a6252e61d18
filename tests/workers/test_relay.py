"""From the outbox to a real broker."""

from __future__ import annotations

import json
import socket
import threading

import pytest
import redis
from kombu.exceptions import OperationalError

from app.db import database_now
from app.jobs.outbox import ring
from tests.servers.ports import free_ports
from tests.worlds.jobs import World
from workers import broker, relay
from workers.broker import make_celery
from workers.relay import relay_batch


def ids_in(broker_url: str, queue: str) -> list[str]:
    """What lies in a queue, oldest first."""
    with redis.Redis.from_url(broker_url) as client:
        found = client.lrange(queue, 0, -1)
    assert isinstance(found, list)
    return [json.loads(message)["headers"]["argsrepr"].strip("[]'") for message in reversed(found)]


class TestRelay:
    def test_rings_for_each_step_in_the_queue_of_its_kind(self, world: World, broker_url: str) -> None:
        job_id, model_id = world.job(shards=3), world.model(status="inspecting")
        inspection = world.inspect(model_id)
        celery = make_celery(broker_url, 60)
        assert relay_batch(world.sessions, celery) == 4
        assert ids_in(broker_url, "gpu") == [step.id for step in world.steps(job_id, "scan")]
        assert ids_in(broker_url, "io") == [inspection]
        assert relay_batch(world.sessions, celery) == 0

    def test_side_by_side_with_another_loses_nothing(self, world: World, broker_url: str) -> None:
        jobs = [world.job(shards=4) for _ in range(20)]
        together = threading.Barrier(3)

        def relay() -> None:
            celery = make_celery(broker_url, 60)
            together.wait()
            while relay_batch(world.sessions, celery):
                pass

        relays = [threading.Thread(target=relay) for _ in range(3)]
        for thread in relays:
            thread.start()
        for thread in relays:
            thread.join()
        expected = [step.id for job_id in jobs for step in world.steps(job_id, "scan")]
        assert sorted(ids_in(broker_url, "gpu")) == sorted(expected)
        assert world.bells() == []

    @pytest.mark.timeout(60)
    def test_gives_a_broker_up_that_takes_a_connection_and_says_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(broker, "ANSWER_SECONDS", 0.2)
        world.job(shards=1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            celery = make_celery(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", 60)
            with pytest.raises(OperationalError):
                relay_batch(world.sessions, celery)
        assert len(world.bells()) == 1

    def test_lets_go_of_its_transaction_when_the_broker_is_slow(
        self, world: World, broker_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(relay, "HOLD_SECONDS", 0.0)
        world.job(shards=3)
        assert relay_batch(world.sessions, make_celery(broker_url, 60)) == 1
        assert len(world.bells()) == 2

    def test_keeps_what_asks_for_a_sweep_to_itself(self, world: World, broker_url: str) -> None:
        with world.sessions.begin() as session:
            ring(session, "sweep", "io", "job_gone", now=database_now(session))
        assert relay_batch(world.sessions, make_celery(broker_url, 60)) == 0
        assert world.bells("sweep") == ["job_gone"]

    def test_keeps_messages_while_the_broker_is_away(self, world: World) -> None:
        world.job(shards=1)
        [nobody_listens] = free_ports(1)
        celery = make_celery(f"redis://127.0.0.1:{nobody_listens}/0", 60)
        with pytest.raises(OperationalError):
            relay_batch(world.sessions, celery)
        assert len(world.bells()) == 1
