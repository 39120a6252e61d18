"""Rounds that help whoever can be helped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.jobs import states
from app.jobs.leases import expire_lease
from app.jobs.tables import StepRow
from tests.worlds.jobs import World
from workers import reaper, relay
from workers.broker import make_celery
from workers.context import Context
from workers.relay import Relay


@pytest.fixture
def two(world: World) -> list[str]:
    """Ids of two ready steps."""
    return [step.id for step in world.steps(world.job(shards=2), "scan")]


class TestOneBadRow:
    def test_keeps_no_other_step_from_being_taken_away(self, world: World, two: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        def expire_most(session: Session, step_id: str) -> bool:
            if step_id == two[0]:
                raise ValueError("a row that cannot be read")
            return expire_lease(session, step_id)

        for step_id in two:
            world.claimed(step_id)
        world.pass_time(lease_expires_at=timedelta(hours=1))
        monkeypatch.setattr(reaper, "expire_lease", expire_most)
        assert reaper.reap(world.sessions) == 1
        assert [world.step(step_id).status for step_id in two] == ["running", "ready"]

    def test_keeps_no_other_bell_from_being_rung(self, world: World, two: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        announce = states.announce

        def announce_most(session: Session, step: StepRow, **options: Any) -> None:
            if step.id == two[0]:
                raise ValueError("a row that cannot be read")
            announce(session, step, **options)

        world.bells()
        world.pass_time(ring_again_at=timedelta(hours=1))
        monkeypatch.setattr(states, "announce", announce_most)
        assert reaper.ring_for_ready_steps(world.sessions) == 1
        assert world.bells() == [two[1]]


def test_after_an_outage_workers_have_time_to_renew_their_leases(
    context: Context, world: World, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]

    def away(_: object) -> int:
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    world.claimed(two[0])
    world.pass_time(lease_expires_at=timedelta(hours=1))
    making_rounds = Relay(context, make_celery("memory://", 60), clock=lambda: now[0])
    now[0] += context.settings.lease_seconds
    with monkeypatch.context() as patched:
        patched.setattr(relay, "reap", away)
        with pytest.raises(OperationalError):
            making_rounds.reap()
    assert making_rounds.reap() == 0, "its worker could not renew the lease either"
    now[0] += context.settings.lease_seconds
    assert making_rounds.reap() == 1


def test_a_relay_that_starts_after_an_outage_gives_workers_as_much_time(context: Context, world: World, two: list[str]) -> None:
    now = [1000.0]
    lease = world.claimed(two[0])
    world.claimed(two[1])
    world.pass_time(lease_expires_at=timedelta(hours=1))
    just_started = Relay(context, make_celery("memory://", 60), clock=lambda: now[0])
    assert just_started.reap() == 0
    world.renew(lease)
    now[0] += context.settings.lease_seconds
    assert just_started.reap() == 1
    assert [world.step(step_id).status for step_id in two] == ["running", "ready"], "who renewed keeps its step"
