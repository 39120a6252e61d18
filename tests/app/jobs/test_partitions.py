"""The partitions of the events: made ahead of time, dropped as a whole, and out of everybody's way. PostgreSQL alone has them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from psycopg.errors import LockNotAvailable
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from app.db import database_now
from app.jobs import partitions
from app.jobs.retention import keep_events
from app.jobs.tables import EventRow, JobRow
from app.migrate import upgrade
from tests.worlds.jobs import World, make_world
from tests.worlds.partitions import as_after_years, dissolve

KEPT = timedelta(days=90)


@pytest.fixture
def world(postgres_url: str) -> Iterator[World]:
    upgrade(postgres_url)
    with make_world(postgres_url) as made:
        yield made


def write(world: World, job_id: str, *, age: timedelta) -> int:
    with world.sessions.begin() as session:
        row = EventRow(tenant_id=world.tenant_id, job_id=job_id, type="job.progress", data={}, created_at=database_now(session) - age)
        session.add(row)
        session.flush()
        return row.id


def place_of(world: World, event_id: int) -> str:
    """The partition that an event is in."""
    with world.sessions() as session:
        return str(session.scalar(text("SELECT tableoid::regclass::text FROM events WHERE id = :id"), {"id": event_id}))


def patiently(chore: Callable[[], int]) -> int:
    """As housekeeping does it: what finds no gap between others' work is tried again."""
    for _ in range(20):
        with suppress(LockNotAvailable):
            try:
                return chore()
            except OperationalError as error:
                raise error.orig or error from None
    raise AssertionError("no gap was found")


@contextmanager
def at_work(world: World) -> Iterator[None]:
    """Four threads create and cancel jobs meanwhile; none is made to give way, and no event is lost."""
    over = threading.Event()

    def work() -> int:
        done = 0
        while not over.is_set():
            world.cancel(world.job())
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work) for _ in range(4)]
        try:
            yield
        finally:
            over.set()
        done = sum(worker.result() for worker in workers)
    assert done
    with world.sessions() as session:
        assert session.scalars(text("SELECT count(*) FROM events")).one() == 3 * done


def all_ends(world: World) -> list[datetime]:
    with world.sessions() as session:
        return partitions.ends(session)


class TestAddPartitions:
    def test_makes_one_a_week_without_a_gap_and_only_once(self, world: World) -> None:
        assert partitions.add_partitions(world.sessions) == 4
        ends = all_ends(world)
        assert {later - end for end, later in pairwise(ends)} == {timedelta(days=7)}
        assert {(end.weekday(), end.hour, end.minute) for end in ends} == {(0, 0, 0)}
        assert ends[-1] - datetime.now(UTC) >= partitions.AHEAD
        assert partitions.add_partitions(world.sessions) == 0

    def test_of_two_at_once_each_partition_is_made_by_one(self, world: World) -> None:
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda _: partitions.add_partitions(world.sessions), range(2)))
        assert sum(made) == 4

    def test_a_week_of_which_something_lies_elsewhere_is_left_out(self, world: World) -> None:
        job_id = world.job()
        early = write(world, job_id, age=-timedelta(days=15))
        assert place_of(world, early) == partitions.OTHER
        assert partitions.add_partitions(world.sessions)
        assert place_of(world, early) == partitions.OTHER
        assert all_ends(world)[1] - timedelta(days=7) > datetime.now(UTC) + timedelta(days=8)
        assert len(world.events(job_id)) == 2

    def test_an_event_in_the_far_future_keeps_no_partition_from_being_made(self, world: World) -> None:
        write(world, world.job(), age=-timedelta(days=3650))
        assert partitions.add_partitions(world.sessions) == 4

    def test_goes_on_with_next_week_after_nobody_kept_house_for_months(self, world: World) -> None:
        as_after_years(world.sessions)
        job_id = world.job()
        with world.sessions.begin() as session:
            for end in partitions.ends(session)[-10:]:
                dissolve(session, end)
        assert place_of(world, world.events(job_id)[0].id) == partitions.OTHER
        assert partitions.add_partitions(world.sessions) == 4
        assert place_of(world, write(world, job_id, age=-timedelta(days=7))) != partitions.OTHER

    def test_begins_anew_where_all_are_gone(self, world: World) -> None:
        with world.sessions.begin() as session:
            dissolve(session, *partitions.ends(session))
        assert partitions.add_partitions(world.sessions) == 5
        [event] = world.events(world.job())
        assert place_of(world, event.id) != partitions.OTHER


class TestDropPartitions:
    def test_an_event_goes_with_the_last_of_its_week(self, world: World) -> None:
        as_after_years(world.sessions)
        job_id = world.job()
        old, young = write(world, job_id, age=KEPT + timedelta(days=7)), write(world, job_id, age=KEPT - timedelta(minutes=1))
        before = all_ends(world)
        dropped = partitions.drop_partitions(world.sessions, kept=KEPT)
        left = {event.id for event in world.events(job_id)}
        assert old not in left
        assert young in left
        assert all_ends(world) == before[dropped:]
        assert all_ends(world)[0] > datetime.now(UTC) - KEPT

    def test_a_reader_is_not_waited_for_and_keeps_no_new_ones_from_being_made(self, world: World) -> None:
        as_after_years(world.sessions)
        before = all_ends(world)
        with world.sessions() as reader:
            reader.execute(select(EventRow.id)).all()
            with pytest.raises(OperationalError, match="lock timeout"):
                keep_events(world.sessions, kept=timedelta(days=1))
        assert set(all_ends(world)) >= {*before}
        keep_events(world.sessions, kept=timedelta(days=1))
        assert len(all_ends(world)) < len(before)


class TestEventsInNoWeek:
    def test_are_forgotten_one_by_one(self, world: World) -> None:
        job_id = world.job()
        first = write(world, job_id, age=KEPT * 2)
        keep_events(world.sessions, kept=KEPT)  # of before there were partitions
        assert first not in {event.id for event in world.events(job_id)}
        as_after_years(world.sessions)
        partitions.drop_partitions(world.sessions, kept=KEPT)
        stray = write(world, job_id, age=KEPT * 2)  # too late for its partition
        assert place_of(world, stray) == partitions.OTHER
        keep_events(world.sessions, kept=KEPT)
        assert len(world.events(job_id)) == 1

    def test_of_the_time_before_partitions_a_wrong_clock_does_not_decide(self, postgres_url: str) -> None:
        upgrade(postgres_url, "0007")
        with make_world(postgres_url) as world:
            job_id = world.job()
            future = write(world, job_id, age=-timedelta(days=3650))
            upgrade(postgres_url)
            assert len(world.events(job_id)) == 2
            assert place_of(world, future) == partitions.OTHER
            assert [end - datetime.now(UTC) < timedelta(days=8) for end in all_ends(world)] == [True]


class TestOthersAtWork:
    def test_a_partition_waits_for_whoever_works_on_a_job_and_gives_way(self, world: World) -> None:
        job_id = world.job()
        with world.sessions.begin() as session:
            session.get_one(JobRow, job_id, with_for_update=True)
            with pytest.raises(OperationalError, match="lock timeout"):
                partitions.add_partitions(world.sessions)
            session.add(EventRow(tenant_id=world.tenant_id, job_id=job_id, type="x", data={}, created_at=database_now(session)))
        assert partitions.add_partitions(world.sessions) == 4
        assert len(world.events(job_id)) == 2

    def test_jobs_go_on_while_partitions_come_and_go(self, world: World) -> None:
        as_after_years(world.sessions)
        with at_work(world):
            dropped = patiently(lambda: partitions.drop_partitions(world.sessions, kept=timedelta(days=1)))
            patiently(lambda: partitions.add_partitions(world.sessions))
        assert dropped

    def test_jobs_go_on_while_the_database_is_upgraded(self, postgres_url: str) -> None:
        upgrade(postgres_url, "0007")
        with make_world(postgres_url) as world, at_work(world):
            upgrade(postgres_url)
