"""What waits, as `/metrics` of the API tells it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.backlog import CACHE_SECONDS, Backlog
from app.db import database_now, make_engine, make_session_factory
from app.jobs.outbox import ring
from tests.worlds.jobs import World


@pytest.fixture
def backlog(world: World) -> CollectorRegistry:
    return Backlog(world.sessions).registry()


def read(registry: CollectorRegistry, name: str, **labels: str) -> float:
    value = registry.get_sample_value(name, labels)
    assert value is not None, f"{name}{labels} is not there"
    return value


class TestBacklog:
    def test_counts_steps_by_queue_and_state(self, world: World, backlog: CollectorRegistry) -> None:
        job_id = world.job(shards=3)
        world.claim_next(job_id)
        world.inspect(world.model(status="inspecting"))
        assert read(backlog, "lustral_queue_steps", queue="gpu", state="ready") == 2
        assert read(backlog, "lustral_queue_steps", queue="gpu", state="running") == 1
        assert read(backlog, "lustral_queue_steps", queue="io", state="ready") == 1
        assert read(backlog, "lustral_queue_steps", queue="io", state="blocked") == 1  # publish
        assert read(backlog, "lustral_jobs_unfinished", status="running") == 1
        assert read(backlog, "lustral_outbox_messages") == 4
        assert read(backlog, "lustral_database_up") == 1

    def test_counts_no_message_that_goes_to_no_broker(self, world: World, backlog: CollectorRegistry) -> None:
        with world.sessions.begin() as session:
            ring(session, "sweep", "io", "job_gone", now=database_now(session) - timedelta(minutes=14))
        assert read(backlog, "lustral_outbox_messages") == 0
        assert read(backlog, "lustral_outbox_oldest_age_seconds") == 0

    def test_is_all_zero_where_nothing_waits(self, backlog: CollectorRegistry) -> None:
        samples = [sample for metric in backlog.collect() for sample in metric.samples]
        assert {sample.name for sample in samples if sample.value} == {"lustral_database_up"}
        assert len(samples) == 17

    def test_a_steps_age_begins_when_it_becomes_ready(self, world: World, backlog: CollectorRegistry) -> None:
        job_id = world.job(shards=1)
        world.pass_time(created_at=timedelta(hours=2))
        world.complete(world.claim_next(job_id))
        world.pass_time(finished_at=timedelta(seconds=90))
        assert 90 <= read(backlog, "lustral_queue_oldest_age_seconds", queue="gpu") < 120

    def test_a_pause_does_not_count_as_age(self, world: World, backlog: CollectorRegistry) -> None:
        job_id = world.job(shards=1)
        world.pass_time(created_at=timedelta(hours=2))
        world.fail(world.claim_next(job_id))
        assert read(backlog, "lustral_queue_oldest_age_seconds", queue="gpu") == 0

    def test_counts_leases_that_nobody_took_back(self, world: World, backlog: CollectorRegistry) -> None:
        world.claim_next(world.job())
        world.pass_time(lease_expires_at=timedelta(minutes=5))
        assert read(backlog, "lustral_leases_overdue") == 1

    def test_tells_how_late_webhooks_are(self, world: World, backlog: CollectorRegistry) -> None:
        world.webhook(["*"])
        world.job()
        world.pass_time(next_attempt_at=timedelta(seconds=50))
        assert read(backlog, "lustral_webhook_deliveries_pending") == 1
        assert 50 <= read(backlog, "lustral_webhook_lag_seconds") < 80

    def test_is_not_counted_again_for_a_while(self, world: World) -> None:
        now = 0.0
        backlog = Backlog(world.sessions, clock=lambda: now).registry()
        assert read(backlog, "lustral_outbox_messages") == 0
        world.job(shards=1)
        assert read(backlog, "lustral_outbox_messages") == 0
        now = CACHE_SECONDS
        assert read(backlog, "lustral_outbox_messages") == 1


def test_says_so_where_the_database_cannot_be_asked(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    backlog = Backlog(make_session_factory(engine, read_only=True)).registry()
    assert read(backlog, "lustral_database_up") == 0
    assert backlog.get_sample_value("lustral_outbox_messages") is None
    engine.dispose()
