"""What nobody asks for but must happen: uploads expire, answers are forgotten, unneeded bytes and parts go."""

from __future__ import annotations

from datetime import UTC, datetime

from app.blobs.service import sweep
from app.idempotency.repository import forget_expired
from app.runtime import Runtime
from app.uploads.service import drop_expired, drop_orphans


def keep_house(runtime: Runtime) -> None:
    """One round, safe to run in several processes at once. Call it every few minutes."""
    drop_expired(runtime)
    with runtime.write.begin() as session:
        forget_expired(session, now=datetime.now(UTC))
    sweep(runtime.write, runtime.store)
    drop_orphans(runtime)
