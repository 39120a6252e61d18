"""What must hold whatever happened, seen from outside: in the database's own record, the store and the receiver's mailbox."""

from __future__ import annotations

import json
from collections import Counter

from sqlalchemy import select, text

from app.artifacts.tables import LOG, ArtifactRow
from app.housekeeping import keep_house
from app.jobs.tables import JobRow, StepRow
from app.webhooks.tables import DeliveryRow
from tests.chaos.cluster import SHARDS, Cluster
from tests.chaos.processes import expected_lines
from workers.sweeper import GRACE, sweep

FORWARD = {
    "job": {
        "queued": {"running", "cancelling", "cancelled", "failed"},
        "running": {"cancelling", "succeeded", "failed"},
        "cancelling": {"cancelled", "failed"},
    },
    "step": {
        "blocked": {"ready", "cancelled"},
        "ready": {"running", "cancelled"},
        "running": {"ready", "succeeded", "failed", "cancelled"},
    },
}
TOLD = {
    "succeeded": ["job.queued", "job.started", "job.succeeded"],
    "failed": ["job.queued", "job.started", "job.failed"],
    "cancelled": ["job.queued", "job.started", "job.cancelled"],
}


def check(cluster: Cluster, job_ids: list[str], *, cancelled: frozenset[str] = frozenset(), doomed: frozenset[str] = frozenset()) -> None:
    """All of them, for jobs that have settled. cancelled: may have ended so; doomed: must have failed."""
    for job_id in job_ids:
        job = cluster.world.get(job_id)
        allowed = {"failed"} if job_id in doomed else {"succeeded", "cancelled"} if job_id in cancelled else {"succeeded"}
        assert job.status in allowed, f"{job_id} is lost: it is {job.status}, {job.error}"
        _check_history(cluster, job_id)
        _check_messages(cluster, job)
        if job.status == "succeeded":
            _check_result(cluster, job_id)
        _check_sweep(cluster, job_id)
    assert not cluster.receiver.forged, "every message is signed"


def _check_history(cluster: Cluster, job_id: str) -> None:
    """No state goes backwards, and each step is accepted once."""
    query = text("SELECT id, before, after, attempt FROM chaos_history WHERE job_id = :job_id ORDER BY number")
    with cluster.world.sessions() as session:
        history = session.execute(query, {"job_id": job_id}).all()
    accepted = Counter(id for id, _, after, _ in history if after == "succeeded")
    attempts: dict[str, int] = {}
    for id, before, after, attempt in history:
        noun = "job" if id == job_id else "step"
        assert after in FORWARD[noun].get(before, ()), f"{id} went from {before} to {after}"
        if noun == "step":
            assert attempt >= attempts.get(id, 0), f"{id} counts its attempts backwards"
            attempts[id] = attempt
    twice = [id for id, times in accepted.items() if times > 1]
    assert not twice, f"accepted more than once: {twice}"
    steps = cluster.world.steps(job_id)
    assert {step.id for step in steps if step.status == "succeeded"} == set(accepted) - {job_id}
    assert all(step.lease_token is None for step in steps), "nobody holds a step of a job that is over"


def _check_result(cluster: Cluster, job_id: str) -> None:
    """Each unit counted once and in order, whoever counted it; published once."""
    with cluster.world.sessions() as session:
        artifacts = {
            row.name: row for row in session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job_id, ArtifactRow.kind != LOG))
        }
    assert artifacts.keys() == {"lines.txt", "model.sig"}
    assert b"".join(cluster.context.store.open_range(artifacts["lines.txt"].key)) == expected_lines(SHARDS)


def _check_messages(cluster: Cluster, job: JobRow) -> None:
    """Each message was received at least once, always under the one id that it has, and always the same."""
    with cluster.world.sessions() as session:
        rows = [row for row in session.scalars(select(DeliveryRow)) if json.loads(row.body)["data"]["id"] == job.id]
    started = [] if job.started_at is not None else ["job.started"]
    assert sorted(row.event_type for row in rows) == sorted(set(TOLD[job.status]) - set(started)), "each owed once"
    for row in rows:
        assert row.status == "succeeded"
        assert set(cluster.receiver.received[row.id]) == {row.body.encode()}
    received = [json.loads(bodies[0]) for bodies in cluster.receiver.received.values() if bodies]
    assert sum(message["data"]["id"] == job.id for message in received) == len(rows), "under no other id"


def _check_sweep(cluster: Cluster, job_id: str) -> None:
    """What the job left in the store is what its rows name, and all of it is there."""
    with cluster.world.sessions.begin() as session:
        job = session.get_one(JobRow, job_id)
        assert job.finished_at is not None
        job.finished_at, job.swept_at = job.finished_at - 2 * GRACE, None
    sweep(cluster.context)
    keep_house(cluster.context.runtime)
    with cluster.world.sessions() as session:
        artifacts = set(session.scalars(select(ArtifactRow.key).where(ArtifactRow.job_id == job_id)))
        succeeded = session.scalars(select(StepRow.outputs).where(StepRow.job_id == job_id, StepRow.status == "succeeded"))
        named = artifacts | {file["key"] for outputs in succeeded for file in (outputs or {}).get("files", [])}
    stored = set(cluster.context.store.keys(f"jobs/{job_id}/"))
    assert stored == named, f"orphaned: {stored - named}; missing: {named - stored}"
