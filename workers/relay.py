"""The outbox to the broker, and the rounds that make up for whatever got lost: `python -m workers.relay`, once or several times."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog
from celery import Celery
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session, sessionmaker

from app.housekeeping import keep_house
from app.jobs.tables import OutboxRow
from app.outages import is_outage
from app.tracing import configure_tracing, current_carrier, span, travelling
from workers.context import Context
from workers.exporter import serve_metrics
from workers.metrics import PUBLISHED, ROUND_FAILURES, ROUND_TIME
from workers.reaper import end_overdue_jobs, reap, ring_for_due_deliveries, ring_for_ready_steps
from workers.sweeper import sweep, sweep_after_deletions

log = structlog.get_logger()

BATCH = 100
LOOK_EVERY = 0.2
STOP_SECONDS = 5.0
# A batch holds its transaction open for no longer than this, and one time-out of the broker's socket.
HOLD_SECONDS = 5.0


def relay_batch(sessions: sessionmaker[Session], celery: Celery) -> int:
    """Hand the oldest messages to the broker and forget them. Returns how many.

    A crash between the two hands them over twice, which is harmless. Relays side by side skip what another holds.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached; the messages stay.
    """
    until = time.monotonic() + HOLD_SECONDS
    with sessions.begin() as session:
        rows = session.scalars(
            select(OutboxRow).where(_for_the_broker()).order_by(OutboxRow.id).limit(BATCH).with_for_update(skip_locked=True)
        ).all()
        done = []
        for row in rows:
            id, queue, carrier = row.payload["id"], row.payload["queue"], travelling(row.payload)
            with span(f"publish {row.topic}", SpanKind.PRODUCER, carrier, **{"lustral.id": id, "lustral.queue": queue}):
                celery.send_task(row.topic, args=[id], queue=queue, headers={**carrier, **current_carrier()})
            PUBLISHED.labels(row.topic, queue).inc()
            done.append(row.id)
            if time.monotonic() > until:
                break
        session.execute(delete(OutboxRow).where(OutboxRow.id.in_(done)).execution_options(synchronize_session=False))
    return len(done)


def _for_the_broker() -> ColumnElement[bool]:
    return OutboxRow.topic != "sweep"


class Relay:
    """Looks at the outbox five times a second and makes its rounds, until `stop` is set. Whatever goes wrong is tried again next time."""

    def __init__(self, context: Context, celery: Celery, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.stop = threading.Event()
        self._context = context
        self._celery = celery
        self._clock = clock
        # It may have been started because the database is back, of whose outage it saw nothing.
        self._reap_from = clock() + context.settings.lease_seconds

    def run(self) -> None:
        # A thread for each: none waits for another that fails, or that takes its time with an object store.
        rounds: list[tuple[float, Callable[[], object]]] = [
            (1.0, self.reap),
            (1.0, self._ring_for_ready_steps),
            (1.0, self._ring_for_due_deliveries),
            (1.0, self._end_overdue_jobs),
            (5.0, self._sweep_after_deletions),
            (300.0, self._sweep_jobs),
            (300.0, self._keep_house),
        ]
        threads = [threading.Thread(target=self._repeat, args=each, name=each[1].__name__, daemon=True) for each in rounds]
        for thread in threads:
            thread.start()
        self._repeat(LOOK_EVERY, self._empty_outbox)
        until = self._clock() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - self._clock()))

    def reap(self) -> int:
        """Take steps from workers that fell silent; but not before those that could not reach the database have had time to say that
        they are still there: one lease from the start of this relay, and from the end of an outage. Returns how many."""
        if self._clock() < self._reap_from:
            return 0
        try:
            return reap(self._context.sessions)
        except Exception as error:
            if is_outage(error):
                self._reap_from = self._clock() + self._context.settings.lease_seconds
            raise

    def _repeat(self, every: float, work: Callable[[], object]) -> None:
        while not self.stop.is_set():
            pause = every
            try:
                work()
            except Exception as error:  # noqa: BLE001  (a store or broker that is away must not end the relay)
                log.warning("relay.waiting", round=work.__name__, error=f"{type(error).__name__}: {error}")
                ROUND_FAILURES.labels(work.__name__.strip("_")).inc()
                pause = max(every, 1.0)
            else:
                ROUND_TIME.labels(work.__name__.strip("_")).set_to_current_time()
            self.stop.wait(pause)

    def _empty_outbox(self) -> None:
        while not self.stop.is_set() and self._anything_to_send() and relay_batch(self._context.sessions, self._celery) == BATCH:
            pass

    def _ring_for_ready_steps(self) -> int:
        return ring_for_ready_steps(self._context.sessions)

    def _ring_for_due_deliveries(self) -> int:
        return ring_for_due_deliveries(self._context.sessions)

    def _end_overdue_jobs(self) -> int:
        return end_overdue_jobs(self._context.sessions)

    def _sweep_after_deletions(self) -> int:
        return sweep_after_deletions(self._context)

    def _sweep_jobs(self) -> int:
        return sweep(self._context)

    def _keep_house(self) -> None:
        keep_house(self._context.runtime)

    def _anything_to_send(self) -> bool:
        # Asked without a lock, so that an idle relay keeps no writer of SQLite waiting.
        with self._context.reads() as session:
            return session.scalar(select(OutboxRow.id).where(_for_the_broker()).limit(1)) is not None


def main() -> None:
    from app.logs import configure_logs
    from workers.celery_app import app, settings
    from workers.context import context

    configure_logs(settings.log_level)
    configure_tracing("lustral-relay")
    if settings.metrics_port is not None:
        serve_metrics(settings.metrics_port, REGISTRY)
    relay = Relay(context(), app)

    def leave(_signal: int, _frame: FrameType | None) -> None:
        relay.stop.set()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    log.info("relay.started")
    relay.run()


if __name__ == "__main__":
    main()
