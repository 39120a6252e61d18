"""What is waiting: queues, outbox and webhooks, counted in the database when Prometheus asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import get_args

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased, sessionmaker

from app.db import database_now
from app.jobs.plan import Queue
from app.jobs.states import UNFINISHED_STEP
from app.jobs.tables import JobRow, OutboxRow, StepRow
from app.webhooks.tables import DeliveryRow

log = structlog.get_logger()

CACHE_SECONDS = 10.0
QUEUES = get_args(Queue)


class Backlog(Collector):
    """Answers from memory for `CACHE_SECONDS`, so that nobody loads the database by asking often. All ages are in seconds by its clock.

    Where the database cannot be asked, `lustral_database_up` is 0 and the rest is absent: old numbers would look like fresh ones.
    """

    def __init__(self, sessions: sessionmaker[Session], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._clock = clock
        self._lock = threading.Lock()
        self._counted: list[Metric] = []
        self._good_until = float("-inf")

    def registry(self) -> CollectorRegistry:
        """A registry of its own: a process may serve more than one database."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if self._clock() >= self._good_until:
                self._counted = self._count()
                self._good_until = self._clock() + CACHE_SECONDS
            return self._counted

    def _count(self) -> list[Metric]:
        try:
            with self._sessions() as session:
                counted = list(count_backlog(session))
        except SQLAlchemyError as error:
            log.warning("backlog.not_counted", error=str(error))
            return [GaugeMetricFamily(*DATABASE_UP, value=0)]
        return [GaugeMetricFamily(*DATABASE_UP, value=1), *counted]


DATABASE_UP = ("lustral_database_up", "1 if what is waiting could be counted in the database.")


def count_backlog(session: Session) -> Iterator[Metric]:
    """The metrics themselves. Every query is answered by an index; none looks at what is finished."""
    now = database_now(session)
    yield _steps(session)
    yield _oldest_ready(session, now)
    overdue = select(func.count()).where(StepRow.status == "running", StepRow.lease_expires_at <= now)
    yield _gauge(
        "lustral_leases_overdue", "Running steps whose lease is over and that no relay has taken back yet.", session.scalar(overdue)
    )
    yield _jobs(session)
    # Those of the topic `sweep` go to no broker: they wait for their time, which is minutes away.
    waiting = select(func.count(), func.min(OutboxRow.created_at)).where(OutboxRow.topic != "sweep")
    messages, oldest = session.execute(waiting).one()
    yield _gauge("lustral_outbox_messages", "Messages that no relay has handed to the broker yet.", messages)
    yield _gauge("lustral_outbox_oldest_age_seconds", "Age of the oldest of them; 0 where there is none.", _age(oldest, now))
    pending = select(func.count(), func.min(DeliveryRow.next_attempt_at)).where(DeliveryRow.status == "pending")
    deliveries, earliest = session.execute(pending).one()
    yield _gauge("lustral_webhook_deliveries_pending", "Webhook messages that are still to be delivered, retries included.", deliveries)
    yield _gauge(
        "lustral_webhook_lag_seconds", "How long the next attempt of a webhook message is overdue; 0 where none is.", _age(earliest, now)
    )


def _steps(session: Session) -> Metric:
    metric = GaugeMetricFamily("lustral_queue_steps", "Unfinished steps by queue and state.", labels=["queue", "state"])
    rows = session.execute(
        select(StepRow.queue, StepRow.status, func.count())
        .where(StepRow.status.in_(UNFINISHED_STEP))
        .group_by(StepRow.queue, StepRow.status)
    )
    counts = {(queue, state): count for queue, state, count in rows}
    for queue in QUEUES:
        for state in UNFINISHED_STEP:
            metric.add_metric([queue, state], counts.get((queue, state), 0))
    return metric


def _oldest_ready(session: Session, now: datetime) -> Metric:
    """A step is ready once the stage before it is finished, or its pause is over: that is where its age begins."""
    metric = GaugeMetricFamily("lustral_queue_oldest_age_seconds", "Age of the oldest ready step; 0 where none is.", labels=["queue"])
    before = aliased(StepRow)
    stage_finished = (
        select(func.max(before.finished_at)).where(before.job_id == StepRow.job_id, before.position < StepRow.position).scalar_subquery()
    )
    unblocked = func.coalesce(stage_finished, StepRow.created_at)
    since = case((StepRow.not_before > unblocked, StepRow.not_before), else_=unblocked)
    rows = session.execute(select(StepRow.queue, func.min(since)).where(StepRow.status == "ready").group_by(StepRow.queue))
    oldest: dict[str, datetime] = dict(rows.all())
    for queue in QUEUES:
        metric.add_metric([queue], _age(oldest.get(queue), now))
    return metric


def _jobs(session: Session) -> Metric:
    metric = GaugeMetricFamily("lustral_jobs_unfinished", "Jobs that are not over, by status.", labels=["status"])
    rows = session.execute(
        select(JobRow.status, func.count()).where(JobRow.swept_at.is_(None), JobRow.finished_at.is_(None)).group_by(JobRow.status)
    )
    counts = dict(rows.all())
    for status in ("queued", "running", "cancelling"):
        metric.add_metric([status], counts.get(status, 0))
    return metric


def _gauge(name: str, text: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, text, value=value or 0)


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())
