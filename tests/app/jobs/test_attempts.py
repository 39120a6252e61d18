"""Every time that a worker took a step is remembered, with what came of it."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from app.jobs import leases
from app.jobs.tables import StepAttemptRow
from tests.worlds.jobs import World


def outcomes(world: World, step_id: str) -> list[tuple[int, str | None]]:
    with world.sessions() as session:
        rows = session.scalars(select(StepAttemptRow).where(StepAttemptRow.step_id == step_id).order_by(StepAttemptRow.number)).all()
    assert all((row.ended_at is None) == (row.outcome is None) for row in rows)
    return [(row.number, row.outcome) for row in rows]


class TestAttempts:
    def test_tell_each_outcome(self, world: World) -> None:
        job_id = world.job("finetune", max_attempts=9)
        [step, _] = world.steps(job_id)
        lease = world.claim_next(job_id)
        assert outcomes(world, step.id) == [(1, None)]
        world.fail(lease, detail="no room left")
        world.pass_time(not_before=timedelta(minutes=1))
        world.claim_next(job_id)
        world.pass_time(lease_expires_at=timedelta(hours=1))
        with world.sessions.begin() as session:
            assert leases.expire_lease(session, step.id)
        lease = world.claim_next(job_id)
        with world.sessions.begin() as session:
            leases.hand_back_step(session, lease)
        world.complete(world.claim_next(job_id))
        assert outcomes(world, step.id) == [(1, "failed"), (2, "lost"), (3, "handed_back"), (4, "succeeded")]
        with world.sessions() as session:
            first, _, third, _ = session.scalars(select(StepAttemptRow).order_by(StepAttemptRow.number))
        assert (first.error or {})["detail"] == "no room left"
        assert third.error is None
        assert first.worker

    def test_end_with_a_job_that_is_cancelled_or_fails(self, world: World) -> None:
        job_id = world.job(shards=2)
        first, second = world.claim_next(job_id), world.claim_next(job_id)
        world.fail(first, final=True)
        assert (outcomes(world, first.step_id), outcomes(world, second.step_id)) == ([(1, "failed")], [(1, "cancelled")])
        job_id = world.job()
        lease = world.claim_next(job_id)
        world.cancel(job_id)
        with world.sessions.begin() as session:
            leases.drop_step(session, lease)
        assert outcomes(world, lease.step_id) == [(1, "cancelled")]
