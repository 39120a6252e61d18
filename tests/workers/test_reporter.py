"""What a step tells is thinned out, and a step that must stop is told so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.jobs.tables import StepRow
from gpu_jobs.reporting import Cancelled
from tests.worlds.jobs import World
from workers import shutdown
from workers.checkpoints import Checkpoints
from workers.context import Context
from workers.heartbeat import Heartbeat
from workers.journal import Journal
from workers.reporter import CHECKPOINT_GRACE, StepReporter


@pytest.fixture
def job_id(world: World) -> str:
    return world.job(shards=1)


@pytest.fixture
def reporter(context: Context, world: World, job_id: str, tmp_path: Path) -> StepReporter:
    lease = world.claim_next(job_id)
    heartbeat = Heartbeat(world.sessions, lease, lease_seconds=60, every=60)  # never started: nothing happens by itself here
    (tmp_path / "checkpoint").mkdir()
    checkpoints = Checkpoints(context, lease, tmp_path / "checkpoint", "checkpoints", None)
    return StepReporter(world.sessions, lease, heartbeat, checkpoints, Journal(), stage="scan", shard=0)


def test_many_reports_become_few_events_and_the_last_one_counts(reporter: StepReporter, world: World, job_id: str) -> None:
    for done in range(1, 501):
        reporter.progress(done, 500, "samples")
    assert 2 <= world.event_types(job_id).count("job.progress") < 50
    [step] = world.steps(job_id, "scan")
    assert step.progress is not None
    assert (step.progress["done"], step.progress["total"]) == (500, 500)


def test_the_pace_is_that_of_this_attempt(reporter: StepReporter, world: World, job_id: str) -> None:
    reporter.progress(400, 500, "samples")  # resumed: an earlier attempt did these
    reporter.progress(500, 500, "samples")
    [step] = world.steps(job_id, "scan")
    assert step.progress is not None
    elapsed_at_most = 100 / step.progress["per_second"]
    assert elapsed_at_most < 60


def test_a_database_that_is_away_for_a_moment_ends_no_step(
    reporter: StepReporter, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World, job_id: str
) -> None:
    (tmp_path / "checkpoint" / "done").write_text("1 2 3")

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    with monkeypatch.context() as patched:
        patched.setattr("workers.reporter.save_progress", away)
        patched.setattr("workers.reporter.save_metrics", away)
        patched.setattr("workers.checkpoints.save_checkpoint", away)
        reporter.progress(1, 1, "samples")
        reporter.metrics(loss=1.0)
        for _ in range(3):
            reporter.checkpoint()
        assert len(list(context.store.keys("checkpoints/"))) == 1, "what is away is not asked again at once"
    reporter.progress(1, 1, "samples")
    assert "job.progress" in world.event_types(job_id)


def test_a_worker_that_must_go_waits_for_the_next_checkpoint_but_not_forever(
    reporter: StepReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutdown.request()
    reporter.progress(1, 10, "samples")
    monkeypatch.setattr(shutdown, "seconds_ago", lambda: CHECKPOINT_GRACE + 1)
    with pytest.raises(Cancelled):
        reporter.progress(2, 10, "samples")


def test_a_step_that_has_asked_whether_its_worker_must_go_is_left_to_save(
    reporter: StepReporter, monkeypatch: pytest.MonkeyPatch, world: World, job_id: str
) -> None:
    assert not reporter.leaving()
    shutdown.request()
    assert (reporter.leaving(), reporter.saving) == (True, True)
    monkeypatch.setattr(shutdown, "seconds_ago", lambda: CHECKPOINT_GRACE + 1)
    reporter.progress(1, 10, "samples")
    with pytest.raises(Cancelled, match="saved"):
        reporter.checkpoint()
    assert not reporter.saving
    assert world.steps(job_id, "scan")[0].checkpoint is not None


def test_a_lost_lease_outranks_everything_else(reporter: StepReporter, world: World, job_id: str) -> None:
    world.cancel(job_id)
    with world.sessions.begin() as session:
        step = session.scalars(select(StepRow).where(StepRow.status == "running")).one()
        step.lease_token = "somebody else's"
    with pytest.raises(Cancelled, match="lease lost"):
        reporter.progress(1, 1, "samples")
    with pytest.raises(Cancelled, match="lease lost"):
        reporter.checkpoint()
