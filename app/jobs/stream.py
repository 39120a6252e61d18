"""A job's events as server-sent events, from wherever the client left off to the job's end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from app.errors import TooManyRequests
from app.jobs import repository
from app.jobs.schemas import JobEvent, job_event
from app.jobs.states import FINAL
from app.jobs.tables import JobRow

log = structlog.get_logger()

EVENT_STREAM = "text/event-stream"
LOOK_EVERY = 0.5
# A comment now and then, so that proxies and clients see that the line is alive.
HEARTBEAT_EVERY = 15.0
BATCH = 200
RETRY_AFTER = 15


class EventStreams:
    """All streams of this process. Twice a second it asks once, for all of them, which jobs have something new.

    Each tenant may hold `most` streams open.
    """

    def __init__(
        self, sessions: sessionmaker[Session], most: int, *, look_every: float = LOOK_EVERY, heartbeat_every: float = HEARTBEAT_EVERY
    ) -> None:
        self._sessions = sessions
        self._most = most
        self._look_every = look_every
        self._heartbeat_every = heartbeat_every
        self._open: Counter[str] = Counter()
        self._opening = threading.Lock()
        self._followed: Counter[str] = Counter()
        self._newest: Mapping[str, int] = {}
        self._looked = asyncio.Condition()
        self._watch: asyncio.Task[None] | None = None

    def open(self, tenant_id: str, job_id: str, after: int) -> StreamingResponse:
        """The answer that streams every event past the number `after`, and ends with the job.

        Raises:
            TooManyRequests: the tenant holds as many streams open as it may.
        """
        with self._opening:
            if self._open[tenant_id] >= self._most:
                detail = f"{self._most} streams of events are open, which is what you may have. Close some, or list the events instead."
                raise TooManyRequests(detail, retry_after_seconds=RETRY_AFTER)
            self._open[tenant_id] += 1
        return _EventStream(self, tenant_id, job_id, after)

    def closed(self, tenant_id: str) -> None:
        with self._opening:
            self._open[tenant_id] -= 1
            self._open += Counter()  # forgets those at zero

    async def follow(self, job_id: str, after: int) -> AsyncIterator[str]:
        spoke = time.monotonic()
        yield f"retry: {round(self._look_every * 1000)}\n\n"
        with self._following(job_id):
            while True:
                found, over = await run_in_threadpool(_look, self._sessions, job_id, after)
                for number, event in found:
                    after, spoke = number, time.monotonic()
                    yield f"id: {event.id}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
                if len(found) == BATCH:
                    continue
                if over:
                    return
                while not await self._anything_new(job_id, after):
                    if time.monotonic() - spoke >= self._heartbeat_every:
                        spoke = time.monotonic()
                        yield ": still here\n\n"

    @contextmanager
    def _following(self, job_id: str) -> Iterator[None]:
        self._followed[job_id] += 1
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            self._followed[job_id] -= 1
            self._followed += Counter()

    async def _anything_new(self, job_id: str, after: int) -> bool:
        """After the next look: whether the job has events past `after`, or was deleted."""
        async with self._looked:
            await self._looked.wait()
        return self._newest.get(job_id, after + 1) > after

    async def _keep_looking(self) -> None:
        while self._followed:
            await asyncio.sleep(self._look_every)
            try:
                self._newest = await run_in_threadpool(_newest, self._sessions, list(self._followed))
            except Exception as error:  # noqa: BLE001  (all streams hang on this loop; meanwhile they say that they are still here)
                log.warning("events.not_read", error=f"{type(error).__name__}: {error}")
            async with self._looked:
                self._looked.notify_all()


class _EventStream(StreamingResponse):
    """Gives its place back however it ends, also when the client is gone before it began."""

    def __init__(self, streams: EventStreams, tenant_id: str, job_id: str, after: int) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(streams.follow(job_id, after), media_type=EVENT_STREAM, headers=headers)
        self._streams = streams
        self._tenant_id = tenant_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.closed(self._tenant_id)


def _newest(sessions: sessionmaker[Session], job_ids: Sequence[str]) -> dict[str, int]:
    with sessions() as session:
        return repository.newest_events(session, job_ids)


def _look(sessions: sessionmaker[Session], job_id: str, after: int) -> tuple[Sequence[tuple[int, JobEvent]], bool]:
    with sessions() as session:
        # The status is read first: events that were written with the last change are then surely among those read next.
        status = session.scalars(select(JobRow.status).where(JobRow.id == job_id)).one_or_none()
        rows = repository.list_events(session, job_id, after=after, oldest_first=True, limit=BATCH)
        return [(row.id, job_event(row)) for row in rows], status is None or status in FINAL
