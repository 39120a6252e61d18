"""Each fault alone, and then several at random: nothing is lost, nothing counts twice."""

from __future__ import annotations

import random
from contextlib import ExitStack, suppress

import pytest

from tests.chaos.cluster import Cluster
from tests.chaos.conftest import OUTAGE_SECONDS, SCHEDULES, SEED
from tests.chaos.faults import FAULTS, NotMet, Scene
from tests.chaos.invariants import check

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_by(name: str, cluster: Cluster) -> None:
    scene = Scene(cluster, random.Random(f"{SEED} {name}"), OUTAGE_SECONDS, [])
    with FAULTS[name](scene):
        scene.ids += [cluster.submit(), cluster.submit()]
    cluster.settle(scene.ids)
    check(cluster, scene.ids)


@pytest.mark.parametrize(
    "name",
    ["kill -9 of a process: checkpoint-stored", "kill -9 of a process: outputs-stored", "frozen past the lease: outputs-stored"],
)
def test_nothing_of_what_is_fetched_is_lost_by(name: str, cluster: Cluster) -> None:
    scene = Scene(cluster, random.Random(f"{SEED} {name}"), OUTAGE_SECONDS, [])
    with FAULTS[name](scene):
        scene.ids.append(cluster.submit_dataset())
    cluster.settle(scene.ids)
    check(cluster, scene.ids)


@pytest.mark.parametrize("number", range(SCHEDULES))
def test_nothing_is_lost_on_schedule(number: int, cluster: Cluster) -> None:
    rng = random.Random(SEED + number)
    names = rng.sample(list(FAULTS), rng.randint(2, 4))
    print(f"LUSTRAL_CHAOS_SEED={SEED + number} LUSTRAL_CHAOS_SCHEDULES=1 is this schedule: {', '.join(names)}")  # noqa: T201
    scene = Scene(cluster, rng, rng.uniform(0, OUTAGE_SECONDS), [])
    cancelled: set[str] = set()
    with ExitStack() as faults:
        for name in names:
            # A fault that meets nobody any more has still left the world in order.
            faults.enter_context(suppress(NotMet))
            faults.enter_context(FAULTS[name](scene))
        scene.ids.append(cluster.submit_dataset())
        for _ in range(rng.randint(1, 3)):
            scene.ids.append(cluster.submit())
            scene.moment()
        if rng.random() < 0.3:
            cancelled.add(rng.choice(scene.ids[1:]))
            cluster.world.cancel(next(iter(cancelled)))
    cluster.settle(scene.ids)
    check(cluster, scene.ids, cancelled=frozenset(cancelled))


def test_a_step_that_kills_its_workers_ends_with_a_clear_error_and_keeps_no_other_from_its_work(cluster: Cluster) -> None:
    healthy = cluster.submit()
    doomed = cluster.submit_poison()
    cluster.settle([healthy, doomed])
    check(cluster, [healthy, doomed], doomed=frozenset([doomed]))
    error = cluster.world.get(doomed).error
    assert error is not None
    assert error["type"] == "urn:lustral:problem:step-failed"
    assert "failed 3 times" in error["detail"]
    assert "fell silent" in error["detail"]
