"""A step has one worker at a time, and only that worker's writes count."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from app.jobs import leases
from app.jobs.leases import Lease, LeaseLost
from tests.worlds.jobs import World
from workers.reaper import reap, ring_for_ready_steps


class TestClaim:
    def test_gives_a_ready_step_to_one_worker(self, world: World) -> None:
        [first, second] = [step.id for step in world.steps(world.job(), "scan")]
        assert world.claim(first) is not None
        assert world.claim(first) is None
        assert world.claim(second) is not None

    def test_lets_exactly_one_of_many_rivals_win(self, world: World) -> None:
        step_id = world.steps(world.job(shards=1), "scan")[0].id
        won: list[Lease] = []
        together = threading.Barrier(8)

        def rival(name: str) -> None:
            together.wait()
            lease = world.claim(step_id, worker=name)
            if lease is not None:
                won.append(lease)

        rivals = [threading.Thread(target=rival, args=[f"worker-{number}"]) for number in range(8)]
        for thread in rivals:
            thread.start()
        for thread in rivals:
            thread.join()
        assert len(won) == 1
        assert world.step(step_id).attempt == 1

    def test_refuses_a_step_whose_stage_has_not_come(self, world: World) -> None:
        job_id = world.job()
        assert world.claim(world.steps(job_id, "verdict")[0].id) is None

    def test_starts_the_job(self, world: World) -> None:
        job_id = world.job()
        assert world.get(job_id).status == "queued"
        world.claim_next(job_id)
        job = world.get(job_id)
        assert (job.status, job.stage) == ("running", "scan")
        assert world.event_types(job_id) == ["job.queued", "job.started", "job.stage"]

    def test_of_a_deleted_step_is_refused(self, world: World) -> None:
        assert world.claim("step_gone") is None


class TestExpiredLease:
    def test_is_left_alone_while_its_worker_renews_it(self, world: World) -> None:
        lease = world.claim_next(world.job())
        world.pass_time(lease_expires_at=timedelta(minutes=2))
        world.renew(lease)
        assert reap(world.sessions) == 0

    def test_lets_another_worker_finish(self, world: World) -> None:
        job_id = world.job(shards=1)
        late = world.claim_next(job_id)
        world.bells()
        world.pass_time(lease_expires_at=timedelta(minutes=2))
        assert reap(world.sessions) == 1
        assert world.bells() == [late.step_id]
        second = world.claimed(late.step_id, worker="worker-2")
        assert second.attempt == 2
        assert world.complete(second, {"by": "worker-2"})
        assert world.statuses(job_id)[:2] == [("scan", "succeeded"), ("verdict", "ready")]

    def test_makes_every_write_of_the_late_worker_void(self, world: World) -> None:
        job_id = world.job(shards=1)
        late = world.claim_next(job_id)
        world.pass_time(lease_expires_at=timedelta(minutes=2))
        reap(world.sessions)
        current = world.claimed(late.step_id, worker="worker-2")
        before = world.step(late.step_id)
        writes: list[Callable[[Session], object]] = [
            lambda session: leases.renew_lease(session, late, lease_seconds=60),
            lambda session: leases.save_progress(session, late, {"done": 9, "total": 9, "unit": "samples", "per_second": None}),
            lambda session: leases.save_metrics(session, late, "scan", 0, {"loss": 1.0}),
            lambda session: leases.save_checkpoint(session, late, {"files": []}),
            lambda session: leases.complete_step(session, late, result={"by": "late"}, outputs={}),
            lambda session: leases.fail_step(session, late, {"type": "", "title": "", "detail": ""}, final=True),
            lambda session: leases.hand_back_step(session, late),
            lambda session: leases.drop_step(session, late),
        ]
        for write in writes:
            with pytest.raises(LeaseLost), world.sessions.begin() as session:
                write(session)
        after = world.step(late.step_id)
        assert (after.status, after.progress, after.checkpoint, after.result) == ("running", None, None, None)
        assert (after.lease_token, after.lease_expires_at) == (current.token, before.lease_expires_at)
        assert world.get(job_id).status == "running"

    def test_of_a_worker_that_never_renewed_ends_the_job_after_the_last_attempt(self, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=2)
        step_id = world.steps(job_id, "scan")[0].id
        for _ in range(2):
            world.claimed(step_id)
            world.pass_time(lease_expires_at=timedelta(minutes=2))
            reap(world.sessions)
        job = world.get(job_id)
        assert job.status == "failed"
        assert job.error is not None
        assert job.error["type"] == "urn:lustral:problem:step-failed"
        assert "failed 2 times" in job.error["detail"]
        assert "fell silent" in job.error["detail"]
        assert world.claim(step_id) is None

    def test_is_not_counted_with_failures_of_the_step_itself(self, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=2)
        lease = world.claim_next(job_id)
        world.pass_time(lease_expires_at=timedelta(minutes=2))
        reap(world.sessions)
        world.fail(world.claimed(lease.step_id))
        world.pass_time(not_before=timedelta(hours=1))
        world.fail(world.claimed(lease.step_id))
        assert world.get(job_id).status == "failed"
        assert world.step(lease.step_id).attempt == 3, "two failures, besides the worker that was lost"


class TestFailedAttempt:
    def test_is_repeated_after_a_pause(self, world: World) -> None:
        job_id = world.job(shards=1)
        lease = world.claim_next(job_id)
        world.bells()
        world.fail(lease, detail="CUDA out of memory")
        step = world.step(lease.step_id)
        assert step.status == "ready"
        assert world.claim(lease.step_id) is None, "its pause is not over"
        assert world.bells() == []
        world.pass_time(not_before=timedelta(hours=1), ring_again_at=timedelta(hours=1))
        assert ring_for_ready_steps(world.sessions) == 1
        assert world.bells() == [lease.step_id]
        assert world.claimed(lease.step_id).attempt == 2
        assert "job.retrying" in world.event_types(job_id)

    def test_ends_the_job_when_no_attempt_is_left(self, world: World) -> None:
        job_id = world.job(shards=2, max_attempts=1)
        other = world.claim_next(job_id)
        world.fail(world.claim_next(job_id), detail="CUDA out of memory")
        job = world.get(job_id)
        assert job.status == "failed"
        assert job.error is not None
        assert job.error["detail"] == "The step scan (part 2 of 2) failed 1 times. The last time: CUDA out of memory"
        assert {status for _, status in world.statuses(job_id)} == {"failed", "cancelled"}
        with pytest.raises(LeaseLost):
            world.renew(other)

    def test_ends_the_job_at_once_when_no_other_attempt_could_help(self, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=5)
        world.fail(world.claim_next(job_id), final=True, detail="the data set has no answers")
        job = world.get(job_id)
        assert (job.status, job.error and job.error["detail"]) == ("failed", "the data set has no answers")


class TestHandedBackStep:
    def test_is_free_at_once_and_loses_no_attempt(self, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=1)
        lease = world.claim_next(job_id)
        world.bells()
        with world.sessions.begin() as session:
            leases.hand_back_step(session, lease)
        assert world.bells() == [lease.step_id]
        again = world.claimed(lease.step_id, worker="worker-2")
        assert world.complete(again)
        assert world.get(job_id).status == "running"

    def test_may_kill_no_more_workers_for_it(self, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=2)
        step_id = world.steps(job_id, "scan")[0].id
        for _ in range(3):
            with world.sessions.begin() as session:
                leases.hand_back_step(session, world.claimed(step_id))
        for status in ("running", "failed"):
            world.claimed(step_id)
            world.pass_time(lease_expires_at=timedelta(minutes=2))
            assert reap(world.sessions) == 1
            assert world.get(job_id).status == status

    def test_keeps_what_was_spared_before(self, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=2)
        step_id = world.steps(job_id, "scan")[0].id
        world.claimed(step_id)
        world.pass_time(lease_expires_at=timedelta(minutes=2))
        assert reap(world.sessions) == 1
        lease = world.claimed(step_id)
        with world.sessions.begin() as session:
            leases.hand_back_step(session, lease)
        world.claimed(step_id)
        world.pass_time(lease_expires_at=timedelta(minutes=2))
        assert reap(world.sessions) == 1
        assert world.get(job_id).status == "failed"


class TestBells:
    def test_ring_for_each_step_of_the_first_stage(self, world: World) -> None:
        job_id = world.job(shards=3)
        assert world.bells() == [step.id for step in world.steps(job_id, "scan")]

    def test_ring_again_for_a_step_whose_message_was_lost_ever_less_often(self, world: World) -> None:
        step_id = world.steps(world.job(shards=1), "scan")[0].id
        assert world.bells() == [step_id]
        assert ring_for_ready_steps(world.sessions) == 0
        pauses = []
        for _ in range(6):
            world.pass_time(ring_again_at=timedelta(minutes=15))
            assert ring_for_ready_steps(world.sessions) == 1
            assert world.bells() == [step_id]
            step = world.step(step_id)
            pauses.append(step.rings)
        assert pauses == sorted(pauses)

    def test_that_come_twice_change_nothing(self, world: World) -> None:
        job_id = world.job(shards=1)
        lease = world.claim_next(job_id)
        world.complete(lease, {"first": True})
        assert world.claim(lease.step_id) is None
        assert world.step(lease.step_id).result == {"first": True}
