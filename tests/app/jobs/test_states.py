"""A job goes forward stage by stage, ends once, and never goes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.jobs import leases, states
from app.jobs.leases import Lease, LeaseLost
from app.jobs.states import FINAL, waiting_jobs
from app.jobs.tables import JobRow, StepAttemptRow
from app.webhooks import emit
from app.webhooks.tables import DeliveryRow, WebhookRow
from tests.worlds.jobs import World, make_world
from workers.reaper import end_overdue_jobs, reap


class TestStages:
    def test_follow_one_another_to_the_end(self, world: World) -> None:
        job_id = world.job("purify", shards=2)
        seen = []
        while world.get(job_id).status not in FINAL:
            lease = world.claim_next(job_id)
            seen.append(world.step(lease.step_id).kind)
            world.complete(lease, {"verdict": "clean"})
        assert seen == ["scan", "scan", "verdict", "forget", "purify", "purify", "merge", "publish"]
        job = world.get(job_id)
        assert (job.status, job.result, job.error) == ("succeeded", {"verdict": "clean"}, None)
        assert job.finished_at is not None
        assert job.started_at is not None
        assert job.created_at <= job.started_at <= job.finished_at

    def test_open_only_after_the_last_shard(self, world: World) -> None:
        job_id = world.job(shards=2)
        world.complete(world.claim_next(job_id))
        assert world.steps(job_id, "verdict")[0].status == "blocked"
        world.complete(world.claim_next(job_id))
        assert world.steps(job_id, "verdict")[0].status == "ready"

    def test_open_once_when_the_last_shards_finish_together(self, world: World) -> None:
        for _ in range(5):
            job_id = world.job(shards=4)
            claimed = [world.claim_next(job_id) for _ in range(4)]
            world.bells()
            together = threading.Barrier(4)

            def finish(number: int, claimed: list[leases.Lease] = claimed, together: threading.Barrier = together) -> None:
                together.wait()
                world.complete(claimed[number])

            threads = [threading.Thread(target=finish, args=[number]) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert world.bells() == [world.steps(job_id, "verdict")[0].id]


class TestInputs:
    def test_that_are_still_inspected_are_waited_for(self, world: World) -> None:
        model_id, dataset_id = world.model(status="inspecting"), world.dataset(status="inspecting")
        looking = [world.inspect(model_id), world.inspect(dataset_id)]
        job_id = world.job(model_id=model_id, dataset_id=dataset_id)
        world.bells()
        world.finish_inspection(looking[0], accepted=True)
        assert world.bells() == []
        world.finish_inspection(looking[1], accepted=True)
        assert world.bells() == [step.id for step in world.steps(job_id, "scan")]

    def test_that_are_rejected_fail_the_job_and_say_why(self, world: World) -> None:
        model_id = world.model(status="inspecting")
        looking = world.inspect(model_id)
        job_id = world.job(model_id=model_id)
        world.finish_inspection(looking, accepted=False)
        job = world.get(job_id)
        assert job.status == "failed"
        assert job.error == {
            "type": "urn:lustral:problem:input-rejected",
            "title": "An input was rejected",
            "detail": f"The model {model_id} was rejected by its inspection: the header lies",
        }
        assert {status for _, status in world.statuses(job_id)} == {"cancelled"}

    def test_whose_inspection_keeps_crashing_are_rejected(self, world: World) -> None:
        model_id = world.model(status="inspecting")
        looking = world.inspect(model_id)
        job_id = world.job(model_id=model_id)
        for _ in range(3):
            world.claimed(looking)
            world.pass_time(lease_expires_at=timedelta(minutes=2))
            reap(world.sessions)
        job = world.get(job_id)
        assert job.status == "failed"
        assert job.error is not None
        assert "fell silent" in job.error["detail"]

    def test_name_the_jobs_that_wait_in_the_order_in_which_they_are_locked(self, world: World) -> None:
        model_id = world.model(status="inspecting")
        for job_id in ("job_2", "job_3", "job_1"):
            world.job(model_id=model_id, job_id=job_id)
        with world.sessions() as session:
            assert waiting_jobs(session, world.tenant_id, model_id) == ["job_1", "job_2", "job_3"]


class TestCancel:
    def test_a_queued_job(self, world: World) -> None:
        job_id = world.job()
        world.cancel(job_id)
        assert world.get(job_id).status == "cancelled"
        assert {status for _, status in world.statuses(job_id)} == {"cancelled"}

    def test_a_job_that_waits_for_its_inputs(self, world: World) -> None:
        model_id = world.model(status="inspecting")
        looking = world.inspect(model_id)
        job_id = world.job(model_id=model_id)
        world.cancel(job_id)
        world.bells()
        world.finish_inspection(looking, accepted=True)
        assert world.get(job_id).status == "cancelled"
        assert world.bells() == []

    @pytest.mark.parametrize("stage", ["scan", "verdict", "forget", "purify", "merge", "finetune", "evaluate", "publish"])
    def test_in_every_stage_waits_for_the_worker_to_let_go(self, world: World, stage: str) -> None:
        job_id = world.job("defend", shards=2)
        world.run_to(job_id, stage)
        lease = world.claim_next(job_id)
        world.cancel(job_id)
        assert world.get(job_id).status == "cancelling"
        assert {status for _, status in world.statuses(job_id)} <= {"succeeded", "running", "cancelled"}
        assert world.renew(lease) is True, "the worker learns that it is to stop"
        with world.sessions.begin() as session:
            leases.drop_step(session, lease)
        assert world.get(job_id).status == "cancelled"
        assert world.step(lease.step_id).status == "cancelled"

    def test_between_two_stages(self, world: World) -> None:
        job_id = world.job(shards=1)
        world.run_to(job_id, "verdict")
        world.cancel(job_id)
        assert world.get(job_id).status == "cancelled"

    def test_wins_over_a_step_that_finishes_meanwhile(self, world: World) -> None:
        job_id = world.job(shards=1)
        world.run_to(job_id, "publish")
        lease = world.claim_next(job_id)
        world.cancel(job_id)
        assert world.complete(lease, {"verdict": "clean"}) is False
        job = world.get(job_id)
        assert (job.status, job.result) == ("cancelled", None)

    def test_ends_although_the_worker_died(self, world: World) -> None:
        job_id = world.job(shards=1)
        world.claim_next(job_id)
        world.cancel(job_id)
        world.pass_time(lease_expires_at=timedelta(minutes=2))
        reap(world.sessions)
        assert world.get(job_id).status == "cancelled"

    def test_needs_nobodys_consent_once_workers_have_had_time_to_let_go(self, world: World) -> None:
        job_id = world.job(shards=2)
        leases_held = [world.claim_next(job_id) for _ in range(2)]
        world.cancel(job_id)
        with world.sessions.begin() as session:
            leases.drop_step(session, leases_held[0])
        assert end_overdue_jobs(world.sessions) == 0, "the other may let go of itself"
        with world.sessions.begin() as session:
            job = session.get_one(JobRow, job_id)
            assert job.deadline_at is not None
            job.deadline_at -= states.LETTING_GO
        assert end_overdue_jobs(world.sessions) == 1
        assert world.get(job_id).status == "cancelled"
        assert world.event_types(job_id)[-1] == "job.cancelled"
        assert {status for _, status in world.statuses(job_id)} == {"cancelled"}
        with world.sessions() as session:
            assert {*session.scalars(select(StepAttemptRow.outcome))} == {"cancelled"}
        with pytest.raises(LeaseLost):
            world.renew(leases_held[1])
        assert end_overdue_jobs(world.sessions) == 0

    def test_twice_is_cancelling_once(self, world: World) -> None:
        job_id = world.job(shards=1)
        world.claim_next(job_id)
        world.cancel(job_id)
        world.cancel(job_id)
        assert world.event_types(job_id).count("job.cancelling") == 1

    @pytest.mark.parametrize("end", ["succeeded", "failed"])
    def test_leaves_a_job_that_is_over_as_it_is(self, world: World, end: str) -> None:
        job_id = world.job(shards=1, max_attempts=1)
        if end == "failed":
            world.fail(world.claim_next(job_id))
        while world.get(job_id).status not in FINAL:
            world.complete(world.claim_next(job_id))
        world.cancel(job_id)
        assert world.get(job_id).status == end
        assert world.event_types(job_id)[-1] == f"job.{end}"


class TestWebhookMessages:
    def test_are_owed_to_those_who_want_them(self, world: World) -> None:
        everything, ends = world.webhook(["*"]), world.webhook(["job.succeeded"])
        job_id = world.job(shards=1)
        while world.get(job_id).status not in FINAL:
            world.complete(world.claim_next(job_id))
        told = [(delivery.webhook_id, delivery.event_type) for delivery in world.deliveries()]
        assert sorted(told) == sorted(
            [(everything, "job.queued"), (everything, "job.started"), (everything, "job.succeeded"), (ends, "job.succeeded")]
        )
        assert set(world.bells("deliver_webhook")) == {delivery.id for delivery in world.deliveries()}
        body = json.loads(world.deliveries()[-1].body)
        assert set(body) == {"type", "timestamp", "data"}
        assert (body["type"], body["data"]["id"], body["data"]["status"]) == ("job.succeeded", job_id, "succeeded")

    def test_of_progress_must_be_asked_for_and_come_every_ten_seconds_at_most(self, world: World) -> None:
        world.webhook(["*"])
        asked = world.webhook(["job.progress"])
        lease = world.claim_next(world.job(shards=1))
        for done in range(1, 11):
            with world.sessions.begin() as session:
                leases.save_progress(session, lease, {"done": done, "total": 10, "unit": "samples", "per_second": 1.0})
        progress = [delivery.webhook_id for delivery in world.deliveries() if delivery.event_type == "job.progress"]
        assert progress == [asked]

    def test_of_inspections_are_sent_too(self, world: World) -> None:
        world.webhook(["*"])
        model_id = world.model(status="inspecting")
        world.finish_inspection(world.inspect(model_id), accepted=False)
        [delivery] = world.deliveries()
        assert delivery.event_type == "model.rejected"
        assert json.loads(delivery.body)["data"]["findings"][0]["detail"] == "the header lies"

    def test_stay_under_twenty_kilobytes(self, world: World) -> None:
        world.webhook(["job.succeeded"])
        job_id = world.job(shards=1)
        world.run_to(job_id, "publish")
        world.complete(world.claim_next(job_id), {"target": {"text": "x" * 50_000}})
        [delivery] = world.deliveries()
        assert len(delivery.body.encode()) < 20_000
        assert json.loads(delivery.body)["data"]["id"] == job_id


class TestDeletedWebhook:
    """An endpoint that goes while a job ends costs the job nothing. On SQLite the two wait for one another anyway."""

    @pytest.fixture
    def world(self, shared_postgres_url: str) -> Iterator[World]:
        with make_world(shared_postgres_url) as made:
            yield made

    @pytest.fixture
    def webhook_id(self, world: World) -> str:
        return world.webhook(["job.succeeded"])

    @pytest.fixture
    def last(self, world: World, webhook_id: str) -> Lease:
        """The last step of a job of which the endpoint is to hear."""
        job_id = world.job(shards=1)
        world.run_to(job_id, "publish")
        return world.claim_next(job_id)

    def delete(self, world: World, webhook_id: str) -> None:
        with world.sessions.begin() as session:
            session.execute(text("SET LOCAL lock_timeout = '200ms'"))
            session.delete(session.get_one(WebhookRow, webhook_id, with_for_update=True))

    def test_waits_for_the_message_that_is_being_written(
        self, world: World, webhook_id: str, last: Lease, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owe = emit.owe

        def owe_while_it_is_deleted(session: Session, endpoint: WebhookRow, **message: Any) -> DeliveryRow:
            with pytest.raises(OperationalError, match="lock timeout"):
                self.delete(world, webhook_id)
            return owe(session, endpoint, **message)

        monkeypatch.setattr(emit, "owe", owe_while_it_is_deleted)
        assert world.complete(last)
        assert len(world.deliveries()) == 1
        self.delete(world, webhook_id)
        assert world.deliveries() == []

    def test_is_owed_nothing_once_it_is_going(self, world: World, webhook_id: str, last: Lease) -> None:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        completing = threading.Thread(target=world.complete, args=[last])
        with world.sessions.begin() as session, world.sessions() as looking:
            session.delete(session.get_one(WebhookRow, webhook_id, with_for_update=True))
            session.flush()
            completing.start()
            waited = False
            while completing.is_alive() and not waited:
                waited = bool(looking.scalar(waiting))
                looking.rollback()
        completing.join()
        assert waited
        assert last.job_id is not None
        assert (world.get(last.job_id).status, world.step(last.step_id).attempt) == ("succeeded", 1)
        assert world.deliveries() == []


class TestEvents:
    def test_and_bells_are_undone_with_the_change_itself(self, world: World) -> None:
        job_id = world.job(shards=1)
        lease = world.claim_next(job_id)
        world.bells()
        before = world.event_types(job_id)
        with world.sessions() as session:
            leases.complete_step(session, lease, result={}, outputs={})
            session.rollback()
        assert world.event_types(job_id) == before
        assert world.bells() == []
        assert world.step(lease.step_id).status == "running"
