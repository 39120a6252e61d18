"""Many streams of events cost one look at the database, and no tenant holds all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from starlette.types import Message

from app.errors import TooManyRequests
from app.jobs import stream
from app.jobs.stream import EventStreams
from app.jobs.tables import EventRow
from tests.worlds.jobs import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(f"sqlite:///{tmp_path / 'lustral.db'}") as made:
        yield made


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The jobs that were asked for, look by look."""
    asked: list[list[str]] = []
    original = stream._newest

    def newest(sessions: Any, job_ids: list[str]) -> dict[str, int]:
        asked.append(job_ids)
        return original(sessions, job_ids)

    monkeypatch.setattr(stream, "_newest", newest)
    return asked


def test_all_streams_share_one_look(world: World, looks: list[list[str]]) -> None:
    jobs = [world.job(shards=1), world.job(shards=1)]
    streams = EventStreams(world.sessions, 100, look_every=0.05)

    async def follow(job_id: str) -> list[str]:
        return [text async for text in streams.follow(job_id, 0)]

    async def all_together() -> list[list[str]]:
        following = asyncio.gather(*(follow(job_id) for job_id in jobs for _ in range(10)))
        await asyncio.sleep(0.15)
        assert looks
        for job_id in jobs:
            await asyncio.to_thread(world.cancel, job_id)
        return await following

    told = asyncio.run(all_together())
    assert all("job.cancelled" in texts[-1] for texts in told)
    assert set(looks[0]) == set(jobs), "one look for all 20 streams"
    assert len(looks) < 20


def test_a_silent_stream_says_that_it_is_still_there_and_a_deleted_job_ends_it(world: World) -> None:
    job_id = world.job(shards=1)
    streams = EventStreams(world.sessions, 100, look_every=0.01, heartbeat_every=0.02)

    async def follow() -> list[str]:
        told = []
        async for text in streams.follow(job_id, 0):
            told.append(text)
            if text.startswith(":") and text not in told[:-1]:
                with world.sessions.begin() as session:
                    session.delete(world.get(job_id))
        return told

    assert ": still here\n\n" in asyncio.run(follow())


def test_a_job_whose_events_are_all_forgotten_still_says_that_its_stream_is_there(world: World, looks: list[list[str]]) -> None:
    job_id = world.job(shards=1)
    with world.sessions.begin() as session:
        session.execute(delete(EventRow))
    streams = EventStreams(world.sessions, 100, look_every=0.01, heartbeat_every=0.1)

    async def second_sign() -> str:
        told = streams.follow(job_id, 0)
        await anext(told)
        return await anext(told)

    assert asyncio.run(asyncio.wait_for(second_sign(), 10)) == ": still here\n\n"
    assert len(looks) > 1


def test_a_tenant_holds_so_many_and_gets_a_place_back_when_one_ends(world: World) -> None:
    job_id = world.job()
    streams = EventStreams(world.sessions, 2, look_every=0.01)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None: ...

    first, _ = streams.open("ten_1", job_id, 0), streams.open("ten_1", job_id, 0)
    with pytest.raises(TooManyRequests, match="2 streams of events are open") as refusal:
        streams.open("ten_1", job_id, 0)
    assert int(refusal.value.headers["Retry-After"]) > 0
    streams.open("ten_2", job_id, 0)
    asyncio.run(first({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send))
    streams.open("ten_1", job_id, 0)
