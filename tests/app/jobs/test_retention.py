"""Old events are forgotten, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import database_now
from app.housekeeping import keep_house
from app.jobs.retention import keep_events
from app.jobs.tables import EventRow
from app.migrate import upgrade
from app.runtime import Runtime
from app.settings import Settings
from tests.worlds.jobs import World, make_world
from tests.worlds.partitions import as_after_years

KEPT = timedelta(days=90)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    upgrade(database_url)  # only migrations cut the events into partitions
    with make_world(database_url) as made:
        yield made


def test_events_past_their_time_are_forgotten_and_the_jobs_stay(world: World) -> None:
    job_id = world.job()
    with world.sessions.begin() as session:
        [event] = session.scalars(select(EventRow)).all()
        now = database_now(session)
        kept, event.created_at = event.id, now - KEPT + timedelta(minutes=1)
        # What is older has lower numbers, but for rows that were written side by side.
        session.add_all(
            EventRow(id=event.id - 10 + n, tenant_id=event.tenant_id, job_id=job_id, type="job.progress", data={}, created_at=when)
            for n, when in enumerate(now - KEPT - timedelta(days=8 + days) for days in range(7))
        )
    if world.sessions.kw["bind"].dialect.name == "postgresql":
        as_after_years(world.sessions)
    keep_events(world.sessions, kept=KEPT, batch=3)
    with world.sessions() as session:
        assert session.scalars(select(EventRow.id)).all() == [kept]
    assert world.get(job_id).status == "queued"


def test_nothing_is_forgotten_where_there_is_nothing_to_do(world: World) -> None:
    job_id = world.job()
    keep_events(world.sessions, kept=KEPT)
    assert world.event_types(job_id) == ["job.queued"]


@pytest.mark.parametrize(("days", "left"), [(90, 0), (0, 1)])
def test_housekeeping_keeps_events_as_long_as_the_operator_says(world: World, tmp_path: Path, days: int, left: int) -> None:
    world.job()
    with world.sessions.begin() as session:
        [event] = session.scalars(select(EventRow)).all()
        event.created_at = database_now(session) - timedelta(days=98)
    if world.sessions.kw["bind"].dialect.name == "postgresql":
        as_after_years(world.sessions)
    runtime = Runtime.open(
        Settings(
            database_url=world.sessions.kw["bind"].url.render_as_string(hide_password=False),
            broker_url="memory://",
            storage_url=f"file://{tmp_path / 'objects'}",
            secret_key="0123456789abcdef0123456789abcdef",
            events_kept_days=days,
        )
    )
    keep_house(runtime)
    runtime.close()
    with world.sessions() as session:
        assert len(session.scalars(select(EventRow.id)).all()) == left
