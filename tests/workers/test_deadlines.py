"""A job may run for so long."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.jobs.leases import LeaseLost
from app.jobs.tables import JobRow
from tests.worlds.jobs import World
from workers.reaper import end_overdue_jobs


def limit(world: World, job_id: str, seconds: int) -> None:
    with world.sessions.begin() as session:
        session.get_one(JobRow, job_id).timeout_seconds = seconds


def test_past_its_deadline_a_job_fails_and_its_workers_stop(world: World) -> None:
    job_id = world.job()
    limit(world, job_id, 60)
    lease = world.claim_next(job_id)
    assert end_overdue_jobs(world.sessions) == 0
    with world.sessions.begin() as session:
        job = session.get_one(JobRow, job_id)
        assert job.deadline_at is not None
        assert job.started_at is not None
        assert job.deadline_at - job.started_at == timedelta(seconds=60)
        job.deadline_at -= timedelta(seconds=61)
    assert end_overdue_jobs(world.sessions) == 1
    job = world.get(job_id)
    assert (job.status, (job.error or {})["type"]) == ("failed", "urn:lustral:problem:deadline-exceeded")
    assert "60 s" in (job.error or {})["detail"]
    with pytest.raises(LeaseLost):
        world.renew(lease)
    assert end_overdue_jobs(world.sessions) == 0


def test_waiting_does_not_count(world: World) -> None:
    job_id = world.job()
    limit(world, job_id, 60)
    assert end_overdue_jobs(world.sessions) == 0
    assert (world.get(job_id).status, world.get(job_id).deadline_at) == ("queued", None)
