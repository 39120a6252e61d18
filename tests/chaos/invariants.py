"""What must hold whatever happened, seen from outside: in the database's own record, the store and the receiver's mailbox."""

from __future__ import annotations

import json
from collections import Counter

from sqlalchemy import select, text

from app.artifacts.tables import LOG, ArtifactRow
from app.blobs.tables import BlobRow
from app.datasets.tables import DatasetRow
from app.housekeeping import keep_house
from app.jobs.tables import JobRow, OutboxRow, StepRow
from app.webhooks.tables import DeliveryRow
from tests.chaos.cluster import SHARDS, Cluster
from tests.chaos.processes import expected_lines
from workers.sweeper import GRACE, sweep, sweep_after_deletions

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


def check(cluster: Cluster, ids: list[str], *, cancelled: frozenset[str] = frozenset(), doomed: frozenset[str] = frozenset()) -> None:
    """All of them, for jobs and data sets that have settled. cancelled: may have ended so; doomed: must have failed."""
    for id in ids:
        if id.startswith("job_"):
            job = cluster.world.get(id)
            allowed = {"failed"} if id in doomed else {"succeeded", "cancelled"} if id in cancelled else {"succeeded"}
            assert job.status in allowed, f"{id} is lost: it is {job.status}, {job.error}"
            _check_messages(cluster, id, set(TOLD[job.status]) - ({"job.started"} if job.started_at is None else set()))
            if job.status == "succeeded":
                _check_result(cluster, id)
        else:
            dataset = cluster.world.subject(id)
            assert dataset.status == "ready", f"{id} is lost: it is {dataset.status}, {dataset.findings}"
            assert len(dataset.files) == 4
            _check_messages(cluster, id, {"dataset.ready"})
        _check_history(cluster, id)
    _check_sweep(cluster, ids)
    assert not cluster.receiver.forged, "every message is signed"


def _check_history(cluster: Cluster, subject_id: str) -> None:
    """No state goes backwards, and each step is accepted once."""
    query = text("SELECT id, before, after, attempt FROM chaos_history WHERE subject_id = :subject_id ORDER BY number")
    with cluster.world.sessions() as session:
        history = session.execute(query, {"subject_id": subject_id}).all()
        steps = session.scalars(select(StepRow).where(StepRow.subject_id == subject_id)).all()
    accepted = Counter(id for id, _, after, _ in history if after == "succeeded")
    attempts: dict[str, int] = {}
    for id, before, after, attempt in history:
        noun = "job" if id == subject_id else "step"
        assert after in FORWARD[noun].get(before, ()), f"{id} went from {before} to {after}"
        if noun == "step":
            assert attempt >= attempts.get(id, 0), f"{id} counts its attempts backwards"
            attempts[id] = attempt
    twice = [id for id, times in accepted.items() if times > 1]
    assert not twice, f"accepted more than once: {twice}"
    assert {step.id for step in steps if step.status == "succeeded"} == set(accepted) - {subject_id}
    assert all(step.lease_token is None for step in steps), "nobody holds a step of what is over"


def _check_result(cluster: Cluster, job_id: str) -> None:
    """Each unit counted once and in order, whoever counted it; published once."""
    with cluster.world.sessions() as session:
        artifacts = {
            row.name: row for row in session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job_id, ArtifactRow.kind != LOG))
        }
    assert artifacts.keys() == {"lines.txt", "model.sig"}
    assert b"".join(cluster.context.store.open_range(artifacts["lines.txt"].key)) == expected_lines(SHARDS)


def _check_messages(cluster: Cluster, id: str, told: set[str]) -> None:
    """Each message was received at least once, always under the one id that it has, and always the same."""
    with cluster.world.sessions() as session:
        rows = [row for row in session.scalars(select(DeliveryRow)) if json.loads(row.body)["data"]["id"] == id]
    assert sorted(row.event_type for row in rows) == sorted(told), "each owed once"
    for row in rows:
        assert row.status == "succeeded"
        assert set(cluster.receiver.received[row.id]) == {row.body.encode()}
    received = [json.loads(bodies[0]) for bodies in cluster.receiver.received.values() if bodies]
    assert sum(message["data"]["id"] == id for message in received) == len(rows), "under no other id"


def _check_sweep(cluster: Cluster, ids: list[str]) -> None:
    """What there is in the whole store is what rows name, and all of it is there."""
    with cluster.world.sessions.begin() as session:
        for job in session.scalars(select(JobRow).where(JobRow.id.in_(ids))):
            assert job.finished_at is not None
            job.finished_at, job.swept_at = job.finished_at - 2 * GRACE, None
        for message in session.scalars(select(OutboxRow).where(OutboxRow.topic == "sweep")):
            message.created_at -= 2 * GRACE
    sweep(cluster.context)
    sweep_after_deletions(cluster.context)
    keep_house(cluster.context.runtime)
    with cluster.world.sessions() as session:
        succeeded = session.scalars(select(StepRow.outputs).where(StepRow.status == "succeeded"))
        named = {file["key"] for outputs in succeeded for file in (outputs or {}).get("files", [])}
        named |= set(session.scalars(select(ArtifactRow.key))) | set(session.scalars(select(BlobRow.key)))
        for files in session.scalars(select(DatasetRow.files)):
            named |= {file["key"] for file in files}
    stored = set(cluster.context.store.keys(""))
    assert stored == named, f"orphaned: {stored - named}; missing: {named - stored}"
