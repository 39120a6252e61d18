"""The simulation agrees with what can be worked out by hand, and says the same each time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from workers.benchmark.costs import Costs, Transaction
from workers.benchmark.simulation import Job, Resource, Simulation

FREE = Transaction(0, 0)
NAMES = ("claim", "renew", "report", "report for the job", "checkpoint", "complete")
NOTHING = Costs({name: {1: FREE} for name in NAMES}, message=0, put=0, get=0, sample={"scan": 0.01, "purify": 0.03})


def seconds(costs: Costs, *, workers: int, shards: int = 100, samples: int = 1000, cores: int = 8, jobs: int = 1) -> float:
    each = [Job(shards, samples) for _ in range(jobs)]
    return Simulation(costs, each, workers=workers, database_cores=cores, seed=1).run()


def with_cost(name: str, cost: Transaction) -> Costs:
    return replace(NOTHING, transactions={**NOTHING.transactions, name: {1: cost}})


def test_without_costs_more_workers_are_as_much_faster() -> None:
    alone = seconds(NOTHING, workers=1)
    assert alone == pytest.approx(100 * 1000 * 0.04, rel=0.02)
    assert seconds(NOTHING, workers=10) == pytest.approx(alone / 10, rel=0.05)


def test_no_more_steps_are_claimed_at_once_than_the_row_of_their_job_lets_pass() -> None:
    slow = with_cost("claim", Transaction(1.0, 0))
    assert seconds(slow, workers=100, samples=1) >= 2 * 100 * 1.0, "200 claims, one after the other"
    assert seconds(slow, workers=100, samples=1, shards=10, jobs=10) < 2 * 100 * 1.0 / 5, "ten jobs have ten rows"


def test_reports_wait_for_the_row_of_their_job_once_a_second_and_not_each() -> None:
    quick = seconds(with_cost("report", Transaction(0.1, 0)), workers=100, shards=100)
    slow = seconds(with_cost("claim", Transaction(0.1, 0)), workers=100, shards=100)
    told = seconds(with_cost("report for the job", Transaction(0.1, 0)), workers=100, shards=100)
    alone = seconds(NOTHING, workers=100, shards=100)
    assert quick == pytest.approx(alone * 1.1, rel=0.02), "each waits for its own"
    assert slow - alone > 9, "a hundred claims, one after the other"
    assert told - alone < alone * 0.1, "one in a hundred reports is told"


def test_the_cores_of_the_database_are_shared_by_all_jobs() -> None:
    slow = with_cost("claim", Transaction(1.0, 1.0))
    assert seconds(slow, workers=100, samples=1, shards=10, jobs=10, cores=1) >= 2 * 100 * 1.0


def test_one_seed_gives_one_result() -> None:
    assert seconds(NOTHING, workers=7) == seconds(NOTHING, workers=7)


def test_a_resource_serves_in_order_and_as_many_at_once_as_it_can() -> None:
    two = Resource(2)
    assert [two.serve(0.0, 1.0) for _ in range(5)] == [1.0, 1.0, 2.0, 2.0, 3.0]
    assert two.serve(10.0, 1.0) == 11.0
    assert two.busy == 6.0


def test_costs_are_read_and_lie_on_a_line_between_what_was_measured(tmp_path: Path) -> None:
    cost = {"16": {"seconds": 0.1, "database": 0.01}, "32": {"seconds": 0.3, "database": 0.02}}
    (tmp_path / "costs").write_text(json.dumps({"transactions": dict.fromkeys(NAMES, cost), "message": 1, "put": 2, "get": 3}))
    runs = [(2, {"scan": 1.0, "purify": 2.0}), (1, {"scan": 2.0, "purify": 4.0})]
    rows = [json.dumps({"processes": processes, "samples": 100, "stages": stages}) for processes, stages in runs]
    (tmp_path / "measured").write_text("\n".join(rows))
    costs = Costs.read(tmp_path / "costs", tmp_path / "measured")
    assert costs.sample == {"scan": 0.02, "purify": 0.04}
    assert costs.transaction("claim", 24).seconds == pytest.approx(0.2)
    assert costs.transaction("claim", 1).seconds == 0.1
    assert costs.transaction("claim", 1000).seconds == 0.3
