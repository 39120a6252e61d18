"""A job's events as server-sent events, from wherever the client left off to the job's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from app.jobs import repository
from app.jobs.schemas import JobEvent, job_event
from app.jobs.states import FINAL
from app.jobs.tables import JobRow

LOOK_EVERY = 0.5
# A comment now and then, so that proxies and clients see that the line is alive.
HEARTBEAT_EVERY = 15.0
BATCH = 200


async def stream_events(
    sessions: sessionmaker[Session], job_id: str, after: int, *, look_every: float = LOOK_EVERY, heartbeat_every: float = HEARTBEAT_EVERY
) -> AsyncIterator[str]:
    """Every event past the number `after`; ends with the job."""
    silent = 0.0
    yield f"retry: {round(look_every * 1000)}\n\n"
    while True:
        found, over = await run_in_threadpool(_look, sessions, job_id, after)
        for number, event in found:
            after = number
            yield f"id: {event.id}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
        if over and len(found) < BATCH:
            return
        silent = 0.0 if found else silent + look_every
        if silent >= heartbeat_every:
            silent = 0.0
            yield ": still here\n\n"
        if len(found) < BATCH:
            await asyncio.sleep(look_every)


def _look(sessions: sessionmaker[Session], job_id: str, after: int) -> tuple[Sequence[tuple[int, JobEvent]], bool]:
    with sessions() as session:
        # The status is read first: events that were written with the last change are then surely among those read next.
        status = session.scalars(select(JobRow.status).where(JobRow.id == job_id)).one_or_none()
        rows = repository.list_events(session, job_id, after=after, oldest_first=True, limit=BATCH)
        return [(row.id, job_event(row)) for row in rows], status is None or status in FINAL
