"""A lease is kept as long as it can be, and known to be lost as soon as it cannot."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from app.jobs.leases import renew_lease
from tests.worlds.jobs import World
from workers import heartbeat
from workers.heartbeat import Heartbeat, Stop


def test_survives_whatever_goes_wrong(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = world.claim_next(world.job(shards=1))
    troubles, renewed = [KeyError("gone"), ValueError("odd")], threading.Event()

    def renew_at_last(*arguments: Any, **options: Any) -> bool:
        if troubles:
            raise troubles.pop()
        renewed.set()
        return renew_lease(*arguments, **options)

    monkeypatch.setattr(heartbeat, "renew_lease", renew_at_last)
    with Heartbeat(world.sessions, lease, lease_seconds=60, every=0.01) as beating:
        assert renewed.wait(30)
        assert beating.stop is None


def test_that_hangs_does_not_hide_that_the_lease_ran_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = world.claim_next(world.job(shards=1))
    hanging, let_go = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> bool:
        hanging.set()
        return not let_go.wait(30)

    monkeypatch.setattr(heartbeat, "renew_lease", hang)
    with Heartbeat(world.sessions, lease, lease_seconds=0.05, every=0.01) as beating:
        assert hanging.wait(30)
        threading.Event().wait(0.1)
        assert beating.stop is Stop.LEASE_LOST
        let_go.set()
