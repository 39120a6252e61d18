"""The queries that run all the time or while somebody waits, each by the function of the service that sends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

import app.tables  # noqa: F401
from app.blobs import repository as blobs
from app.idempotency.repository import forget_expired
from app.jobs import leases, repository, retention, states
from app.jobs.leases import Lease
from app.jobs.tables import JobRow, StepRow
from app.pagination import PageRequest
from app.repository import list_owned
from app.uploads.repository import expired
from workers import reaper, relay, sweeper
from workers.context import Context

Sessions = sessionmaker[Session]
TENANT = "ten_0"
PAGE = PageRequest(limit=50, after=None)
MODEL = f"model_{3:026x}"
JOB = f"job_{206:026x}"  # succeeded, of TENANT
JOBS = [f"job_{number:026x}" for number in range(1, 101)]


class _Unheard(Celery):
    """A broker that takes every message and passes none on."""

    def send_task(self, *_: Any, **__: Any) -> Any:
        return None


def _in_session(work: Callable[[Session], object]) -> Callable[[Sessions], object]:
    def run(sessions: Sessions) -> None:
        with sessions.begin() as session:
            work(session)

    return run


def _list(session: Session, **wanted: object) -> None:
    rows = list_owned(session, JobRow, TENANT, PAGE, *(getattr(JobRow, name) == value for name, value in wanted.items()))
    repository.steps_by_job(session, [row.id for row in rows])


def _ready_step(session: Session) -> str:
    return session.scalars(select(StepRow.id).where(StepRow.status == "ready").limit(1)).one()


def _claim(session: Session) -> Lease:
    lease = leases.claim_step(session, _ready_step(session), worker="worker", lease_seconds=60)
    assert lease is not None
    return lease


def _complete(session: Session) -> None:
    leases.complete_step(session, _claim(session), result={}, outputs={"files": []})


def _delete_job(session: Session) -> None:
    session.delete(session.get_one(JobRow, JOB))


HOT: Mapping[str, Callable[[Sessions], object]] = {
    "claim a step": _in_session(_claim),
    "renew a lease": _in_session(lambda session: leases.renew_lease(session, _claim(session), lease_seconds=60)),
    "report progress": _in_session(
        lambda session: leases.save_progress(session, _claim(session), {"done": 1, "total": 9, "unit": "samples", "per_second": 1.0})
    ),
    "complete a step": _in_session(_complete),
    "list a tenant's jobs": _in_session(_list),
    "list a tenant's queued jobs": _in_session(lambda session: _list(session, status="queued")),
    "list a tenant's failed jobs": _in_session(lambda session: _list(session, status="failed")),
    "list a tenant's jobs on a model": _in_session(lambda session: _list(session, model_id=MODEL)),
    "count a tenant's unfinished jobs": _in_session(lambda session: repository.count_unfinished(session, TENANT)),
    "jobs that read a model": _in_session(lambda session: repository.unfinished_jobs_reading(session, TENANT, MODEL)),
    "jobs that wait for an inspection": _in_session(lambda session: states.waiting_jobs(session, TENANT, MODEL)),
    "events after one seen": _in_session(lambda session: repository.list_events(session, JOB, after=1, oldest_first=True, limit=200)),
    "newest events": _in_session(lambda session: repository.list_events(session, JOB, after=None, oldest_first=False, limit=51)),
    "newest events of 100 jobs, for streams": _in_session(lambda session: repository.newest_events(session, JOBS)),
    "delete a job": _in_session(_delete_job),
    "relay: a batch of the outbox": lambda sessions: relay.relay_batch(sessions, _Unheard()),
    "reaper: leases that ran out": reaper.reap,
    "reaper: ready steps to announce": reaper.ring_for_ready_steps,
    "reaper: deliveries due": reaper.ring_for_due_deliveries,
    "sweeper: jobs to sweep": lambda sessions: next(sweeper._unswept(cast(Context, SimpleNamespace(reads=sessions))), None),
    "sweeper: keys that a job names": _in_session(lambda session: sweeper._named_keys(session, JOB, {f"jobs/{JOB}/outputs"})),
    "housekeeping: uploads past their time": _in_session(lambda session: expired(session, now=datetime.now(UTC), limit=100)),
    "housekeeping: answers to forget": _in_session(lambda session: forget_expired(session, now=datetime.now(UTC))),
    "housekeeping: events to make room for and to forget": lambda sessions: retention.keep_events(sessions, kept=timedelta(days=3650)),
}

READS_ALL: Mapping[str, Callable[[Sessions], object]] = {
    "housekeeping: bytes nobody needs": _in_session(lambda session: blobs.unneeded_ids(session, limit=500)),
}
"""Those that compare two whole tables by their nature, every few minutes and in the background."""
