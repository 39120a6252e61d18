"""What nobody asks for but must happen: uploads expire, answers and old events are forgotten, unneeded bytes go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.blobs.service import sweep
from app.idempotency.repository import forget_expired
from app.jobs.retention import forget_old_events
from app.runtime import Runtime
from app.uploads.service import drop_expired


def keep_house(runtime: Runtime) -> None:
    """One round, safe to run in several processes at once. Call it every few minutes."""
    drop_expired(runtime)
    with runtime.write.begin() as session:
        forget_expired(session, now=datetime.now(UTC))
    if runtime.settings.events_kept_days:
        forget_old_events(runtime.write, kept=timedelta(days=runtime.settings.events_kept_days))
    sweep(runtime.write, runtime.store)
