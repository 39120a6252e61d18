"""What nobody asks for but must happen: uploads expire, answers and old events are forgotten, unneeded bytes, parts and leftovers go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from app.blobs.service import sweep
from app.idempotency.repository import forget_expired
from app.jobs.retention import forget_old_events
from app.runtime import Runtime
from app.uploads.service import drop_expired, drop_orphans

log = structlog.get_logger()


def keep_house(runtime: Runtime) -> None:
    """One round, safe to run in several processes at once. Call it every few minutes. No chore waits for one that fails."""
    for chore in (drop_expired, _forget_answers, _forget_events, _sweep_blobs, _drop_leftovers):
        try:
            chore(runtime)
        except Exception:
            log.exception("chore.failed", chore=chore.__name__)


def _forget_answers(runtime: Runtime) -> None:
    with runtime.write.begin() as session:
        forget_expired(session, now=datetime.now(UTC))


def _forget_events(runtime: Runtime) -> None:
    if runtime.settings.events_kept_days:
        forget_old_events(runtime.write, kept=timedelta(days=runtime.settings.events_kept_days))


def _sweep_blobs(runtime: Runtime) -> None:
    sweep(runtime.write, runtime.store)
    drop_orphans(runtime)


def _drop_leftovers(runtime: Runtime) -> None:
    runtime.store.drop_leftovers()
