"""What nobody asks for but must happen: uploads expire, answers and old events are forgotten, unneeded bytes, parts and leftovers go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from app.blobs.service import sweep
from app.idempotency.repository import forget_expired
from app.jobs.retention import keep_events
from app.outages import cause_of, is_outage
from app.runtime import Runtime
from app.uploads.service import drop_expired, drop_orphans

log = structlog.get_logger()


def keep_house(runtime: Runtime) -> None:
    """One round, safe to run in several processes at once. Call it every few minutes. No chore waits for one that fails."""
    for chore in (drop_expired, _forget_answers, _keep_events, _sweep_blobs, _drop_leftovers):
        try:
            chore(runtime)
        except Exception as error:
            if is_outage(error):
                log.warning("chore.put_off", chore=chore.__name__, error=cause_of(error))
            else:
                log.exception("chore.failed", chore=chore.__name__)


def _forget_answers(runtime: Runtime) -> None:
    with runtime.write.begin() as session:
        forget_expired(session, now=datetime.now(UTC))


def _keep_events(runtime: Runtime) -> None:
    days = runtime.settings.events_kept_days
    keep_events(runtime.write, kept=timedelta(days=days) if days else None)


def _sweep_blobs(runtime: Runtime) -> None:
    sweep(runtime.write, runtime.store)
    drop_orphans(runtime)


def _drop_leftovers(runtime: Runtime) -> None:
    runtime.store.drop_leftovers()
