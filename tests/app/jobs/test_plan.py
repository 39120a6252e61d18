from __future__ import annotations

import pytest

from app.jobs.plan import STAGES, plan_steps
from gpu_jobs.config import JobKind


@pytest.mark.parametrize("kind", STAGES)
def test_every_job_ends_with_its_report(kind: JobKind) -> None:
    last = plan_steps(kind, shards=3)[-1]
    assert (last.kind, last.queue) == ("publish", "io")


def test_scan_and_purify_are_shared_out() -> None:
    steps = plan_steps("defend", shards=3)
    assert [step.kind for step in steps] == [
        *["scan"] * 3,
        "verdict",
        "forget",
        *["purify"] * 3,
        "merge",
        "finetune",
        "evaluate",
        "publish",
    ]
    assert [(step.shard, step.shards) for step in steps if step.kind == "purify"] == [(0, 3), (1, 3), (2, 3)]
    assert [step.position for step in steps] == [0, 0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7]
