"""Swept is only what is gone."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from app.artifacts.tables import ArtifactRow
from app.blobs.service import release
from app.blobs.tables import BlobReferenceRow, BlobRow
from app.db import database_now
from app.jobs.outbox import ring
from app.jobs.tables import JobRow, OutboxRow
from tests.workers.fetching.conftest import with_settings
from tests.workers.running import run_to_end, write_something
from tests.worlds.jobs import World
from workers.context import Context
from workers.reaper import reap
from workers.runner import run
from workers.sweeper import GRACE, sweep, sweep_after_deletions, sweep_job, sweep_left_over


def break_store(context: Context, patched: pytest.MonkeyPatch, prefix: str) -> None:
    """Let nothing under `prefix` be deleted."""
    delete = context.store.delete

    def delete_most(key: str) -> None:
        if key.startswith(prefix):
            raise ConnectionResetError
        delete(key)

    patched.setattr(context.store, "delete", delete_most)


def test_a_job_whose_objects_could_not_be_deleted_is_swept_again(context: Context, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = world.job(), world.job()
    with world.sessions.begin() as session:
        session.execute(update(JobRow).values(status="failed", finished_at=database_now(session) - timedelta(hours=1)))
    for job_id in (first, second):
        context.store.put_bytes(f"jobs/{job_id}/left-over", b"x")
    with monkeypatch.context() as patched:
        break_store(context, patched, f"jobs/{first}")
        assert sweep(context) == 1
    assert list(context.store.keys("jobs/")) == [f"jobs/{first}/left-over"]
    assert [world.get(job_id).swept_at is None for job_id in (first, second)] == [True, False]
    assert sweep(context) == 1
    assert list(context.store.keys("jobs/")) == []
    assert sweep(context) == 0


def test_what_a_deleted_job_leaves_is_remembered_until_it_is_gone(context: Context, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    context.store.put_bytes("jobs/job_gone/left-over", b"x")
    with world.sessions.begin() as session:
        ring(session, "sweep", "io", "job_gone", now=database_now(session))
    with monkeypatch.context() as patched:
        break_store(context, patched, "jobs/")
        assert sweep_after_deletions(context) == 0
    assert sweep_after_deletions(context) == 1
    context.store.put_bytes("jobs/job_gone/by-a-late-worker", b"x")
    assert sweep_after_deletions(context) == 0, "not before the last worker must have stopped"
    with world.sessions.begin() as session:
        for row in session.scalars(select(OutboxRow)):
            row.created_at -= GRACE
    assert sweep_after_deletions(context) == 1
    with world.sessions() as session:
        assert session.scalars(select(OutboxRow).where(OutboxRow.topic == "sweep")).all() == []


def test_what_a_worker_stores_that_was_frozen_until_all_was_swept_is_swept_too(
    context: Context, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = with_settings(context, heartbeat_seconds=30)
    job_id = world.job(shards=1)
    step_id = world.steps(job_id, "scan")[0].id
    put_file, swept = context.store.put_file, list[set[str]]()

    def stored() -> set[str]:
        return set(context.store.keys(f"jobs/{job_id}/"))

    def freeze_once(key: str, path: Path) -> None:
        if not frozen.is_set():
            frozen.set()
            while not reap(world.sessions):
                world.pass_time(lease_expires_at=timedelta(hours=1))
            run_to_end(context, world, job_id)
            with world.sessions.begin() as session:
                session.execute(update(JobRow).values(finished_at=database_now(session) - timedelta(hours=1)))
            sweep(context)
            swept.append(stored())
        put_file(key, path)

    frozen = threading.Event()
    monkeypatch.setattr(context.store, "put_file", freeze_once)
    run(context, step_id, write_something)
    assert world.get(job_id).swept_at is not None
    assert stored() > swept[0]
    sweep_after_deletions(context)
    with world.sessions.begin() as session:
        for message in session.scalars(select(OutboxRow)):
            message.created_at -= GRACE
    sweep_after_deletions(context)
    assert stored() == swept[0]


class TestSweeping:
    def test_deletes_what_failed_attempts_left_and_keeps_what_counts(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id
        context.store.put_bytes(f"jobs/{job_id}/steps/{step_id}/attempts/0/half-written", b"x")
        run_to_end(context, world, job_id)
        before = set(context.store.keys(f"jobs/{job_id}/"))
        assert sweep_job(context, job_id) == 1
        assert before - set(context.store.keys(f"jobs/{job_id}/")) == {f"jobs/{job_id}/steps/{step_id}/attempts/0/half-written"}

    def test_of_a_deleted_job_spares_what_became_part_of_something_else(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        run_to_end(context, world, job_id)
        with world.sessions.begin() as session:
            kept, *gone = session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job_id).order_by(ArtifactRow.name.desc())).all()
            session.add(BlobReferenceRow(blob_id=_blob_of(session, kept.key), owner_id="model_made_of_it"))
            release(session, kept.id)
            session.delete(session.get_one(JobRow, job_id))
        assert sweep_left_over(context, job_id, last=False) > 0
        left = set(context.store.keys(f"jobs/{job_id}/"))
        assert kept.key in left
        assert left <= {kept.key, *(row.key for row in gone)}


def _blob_of(session: Any, key: str) -> str:
    found: str = session.scalars(select(BlobRow.id).where(BlobRow.key == key)).one()
    return found
