"""The outbox to the broker, and the rounds that make up for whatever got lost: `python -m workers.relay`, once or several times."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import delete, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from app.housekeeping import keep_house
from app.jobs.tables import OutboxRow
from workers.context import Context
from workers.reaper import reap, ring_for_due_deliveries, ring_for_ready_steps
from workers.sweeper import sweep

log = structlog.get_logger()

BATCH = 100
LOOK_EVERY = 0.2
REAP_EVERY = 1.0
SWEEP_EVERY = 300.0


def relay_batch(sessions: sessionmaker[Session], celery: Celery) -> int:
    """Hand the oldest messages to the broker and forget them. Returns how many.

    A crash between the two hands them over twice, which is harmless. Relays side by side skip what another holds.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached; the messages stay.
    """
    with sessions.begin() as session:
        rows = session.scalars(select(OutboxRow).order_by(OutboxRow.id).limit(BATCH).with_for_update(skip_locked=True)).all()
        for row in rows:
            celery.send_task(row.topic, args=[row.payload["id"]], queue=row.payload["queue"])
        session.execute(delete(OutboxRow).where(OutboxRow.id.in_([row.id for row in rows])).execution_options(synchronize_session=False))
    return len(rows)


class Relay:
    """Looks at the outbox five times a second and makes its rounds, until `stop` is set."""

    def __init__(self, context: Context, reads: sessionmaker[Session], celery: Celery) -> None:
        self.stop = threading.Event()
        self._context = context
        self._reads = reads
        self._celery = celery
        self._rounds: list[tuple[float, Callable[[], object]]] = [
            (REAP_EVERY, lambda: reap(context.sessions)),
            (REAP_EVERY, lambda: ring_for_ready_steps(context.sessions)),
            (REAP_EVERY, lambda: ring_for_due_deliveries(context.sessions)),
            (SWEEP_EVERY, lambda: sweep(context)),
            (SWEEP_EVERY, lambda: keep_house(context.runtime)),
        ]
        self._due = [0.0 for _ in self._rounds]

    def run(self) -> None:
        while not self.stop.wait(LOOK_EVERY):
            try:
                self._look()
            except (DBAPIError, OperationalError, OSError) as error:
                log.warning("relay.waiting", error=str(error))
                self.stop.wait(1.0)

    def _look(self) -> None:
        now = time.monotonic()
        for number, (every, make_round) in enumerate(self._rounds):
            if now >= self._due[number]:
                self._due[number] = now + every
                make_round()
        while not self.stop.is_set() and self._anything_to_send() and relay_batch(self._context.sessions, self._celery) == BATCH:
            pass

    def _anything_to_send(self) -> bool:
        # Asked without a lock, so that an idle relay keeps no writer of SQLite waiting.
        with self._reads() as session:
            return session.scalar(select(OutboxRow.id).limit(1)) is not None


def main() -> None:
    from app.db import make_engine, make_session_factory
    from app.logs import configure_logs
    from workers.celery_app import app, settings
    from workers.context import context

    configure_logs(settings.log_level)
    relay = Relay(context(), make_session_factory(make_engine(settings.database_url), read_only=True), app)

    def leave(_signal: int, _frame: FrameType | None) -> None:
        relay.stop.set()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    log.info("relay.started")
    relay.run()


if __name__ == "__main__":
    main()
