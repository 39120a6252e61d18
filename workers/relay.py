"""The outbox to the broker, and the rounds that make up for whatever got lost: `python -m workers.relay`, once or several times."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

import structlog
from celery import Celery
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY
from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from app.housekeeping import keep_house
from app.jobs.tables import OutboxRow
from app.tracing import configure_tracing, current_carrier, span, travelling
from workers.context import Context
from workers.exporter import serve_metrics
from workers.metrics import PUBLISHED, ROUND_FAILURES, ROUND_TIME
from workers.reaper import reap, ring_for_due_deliveries, ring_for_ready_steps
from workers.sweeper import sweep

log = structlog.get_logger()

BATCH = 100
LOOK_EVERY = 0.2
REAP_EVERY = 1.0
SWEEP_EVERY = 300.0
STOP_SECONDS = 5.0


def relay_batch(sessions: sessionmaker[Session], celery: Celery) -> int:
    """Hand the oldest messages to the broker and forget them. Returns how many.

    A crash between the two hands them over twice, which is harmless. Relays side by side skip what another holds.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached; the messages stay.
    """
    with sessions.begin() as session:
        rows = session.scalars(select(OutboxRow).order_by(OutboxRow.id).limit(BATCH).with_for_update(skip_locked=True)).all()
        for row in rows:
            id, queue, carrier = row.payload["id"], row.payload["queue"], travelling(row.payload)
            with span(f"publish {row.topic}", SpanKind.PRODUCER, carrier, **{"lustral.id": id, "lustral.queue": queue}):
                celery.send_task(row.topic, args=[id], queue=queue, headers={**carrier, **current_carrier()})
            PUBLISHED.labels(row.topic, queue).inc()
        session.execute(delete(OutboxRow).where(OutboxRow.id.in_([row.id for row in rows])).execution_options(synchronize_session=False))
    return len(rows)


class Relay:
    """Looks at the outbox five times a second and makes its rounds, until `stop` is set. Whatever goes wrong is tried again next time."""

    def __init__(self, context: Context, celery: Celery) -> None:
        self.stop = threading.Event()
        self._context = context
        self._celery = celery

    def run(self) -> None:
        # Deleting from an object store takes its time, and no bell waits for it.
        housekeeping = threading.Thread(target=self._repeat, args=[SWEEP_EVERY, self._keep_house], name="housekeeping", daemon=True)
        rounds = threading.Thread(target=self._repeat, args=[REAP_EVERY, self._reap], name="rounds", daemon=True)
        housekeeping.start()
        rounds.start()
        self._repeat(LOOK_EVERY, self._empty_outbox)
        rounds.join(STOP_SECONDS)

    def _repeat(self, every: float, work: Callable[[], None]) -> None:
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

    def _reap(self) -> None:
        reap(self._context.sessions)
        ring_for_ready_steps(self._context.sessions)
        ring_for_due_deliveries(self._context.sessions)

    def _keep_house(self) -> None:
        sweep(self._context)
        keep_house(self._context.runtime)

    def _anything_to_send(self) -> bool:
        # Asked without a lock, so that an idle relay keeps no writer of SQLite waiting.
        with self._context.reads() as session:
            return session.scalar(select(OutboxRow.id).limit(1)) is not None


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
