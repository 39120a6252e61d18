"""Workers freeze, are killed and wake up late while they fetch. No byte of what is `ready` is missing afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from sqlalchemy import delete, select

from app.blobs.tables import BlobReferenceRow
from app.db import database_now
from app.housekeeping import keep_house
from app.jobs.leases import LeaseLost
from app.jobs.outbox import ring
from app.jobs.tables import OutboxRow
from app.sources.fetched import hold_known, reserve_bytes
from tests.servers.hub import Hub, Repository
from tests.workers.fetching.conftest import with_settings
from tests.worlds.jobs import World
from workers import runner
from workers.context import Context
from workers.fetching import fetch
from workers.fetching.huggingface import HubRepository
from workers.fetching.origin import SourceRefused
from workers.reaper import reap
from workers.runner import run
from workers.sweeper import GRACE, sweep_after_deletions


class Killed(BaseException):
    """Nothing of ours catches it, as nothing catches SIGKILL."""


@pytest.fixture
def dataset_id(world: World, hub: Hub, dataset_files: dict[str, bytes]) -> str:
    hub.repositories["datasets/lab/set"] = Repository(dataset_files)
    return world.dataset(status="inspecting", source={"type": "huggingface", "repo_id": "lab/set", "revision": "main"})


def lose_lease(world: World) -> None:
    world.pass_time(lease_expires_at=timedelta(hours=1))
    assert reap(world.sessions) == 1


def pass_grace(world: World) -> None:
    with world.sessions.begin() as session:
        for message in session.scalars(select(OutboxRow)):
            message.created_at -= GRACE


def run_and_be_killed(context: Context, world: World, step_id: str, where: Any, name: str) -> None:
    """An attempt whose process is killed as it calls `where.name`; its lease is over."""

    def die(*_: object, **__: object) -> NoReturn:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(where, name, die)
        with pytest.raises(Killed):
            run(context, step_id)
    lose_lease(world)


def freeze_once(method: Callable[..., Any], meanwhile: Callable[[], None]) -> Callable[..., Any]:
    """What happens while the first worker that calls `method` is frozen in it."""
    frozen: list[bool] = []

    def call(*arguments: Any) -> Any:
        found = method(*arguments)
        if not frozen:
            frozen.append(True)
            meanwhile()
        return found

    return call


def assert_ready_with_all_its_bytes(context: Context, world: World, dataset_id: str) -> None:
    keep_house(context.runtime)
    dataset = world.subject(dataset_id)
    assert dataset.status == "ready", dataset.findings
    assert dataset.files
    assert [file["path"] for file in dataset.files if not list(context.store.keys(file["key"]))] == []


def test_a_late_worker_that_finds_the_quota_used_up_takes_nothing_from_what_is_ready(
    hub_context: Context, world: World, dataset_id: str, dataset_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = sum(map(len, dataset_files.values())) * 3 // 2
    context = with_settings(hub_context, max_stored_bytes=room, heartbeat_seconds=30)
    step_id = world.inspect(dataset_id)

    def finish_elsewhere() -> None:
        lose_lease(world)
        run(context, step_id)

    monkeypatch.setattr(HubRepository, "list_files", freeze_once(HubRepository.list_files, finish_elsewhere))
    run(context, step_id)
    assert world.step(step_id).attempt == 2
    assert_ready_with_all_its_bytes(context, world, dataset_id)


def test_a_worker_killed_before_it_could_say_that_the_source_refused_takes_nothing_from_the_next(
    hub_context: Context, world: World, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "BATCH_FILES", 1)
    monkeypatch.setattr(fetch, "PAUSE_FACTOR", 0)
    step_id = world.inspect(dataset_id)
    asked: list[object] = []
    download = HubRepository.fetch

    def refuse_the_third(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) == 3:
            raise SourceRefused("forbidden", "the token has expired")
        return download(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(HubRepository, "fetch", refuse_the_third)
        run_and_be_killed(hub_context, world, step_id, runner, "_complete_inspection")
    keep_house(hub_context.runtime)
    run(hub_context, step_id)
    assert_ready_with_all_its_bytes(hub_context, world, dataset_id)


def test_what_an_earlier_attempt_fetched_is_held_at_the_end_even_if_nothing_held_it_any_more(
    hub_context: Context, world: World, dataset_id: str
) -> None:
    step_id = world.inspect(dataset_id)
    run_and_be_killed(hub_context, world, step_id, fetch, "finish_fetch")
    with world.sessions.begin() as session:
        session.execute(delete(BlobReferenceRow).where(BlobReferenceRow.owner_id == dataset_id))
    run(hub_context, step_id)
    assert_ready_with_all_its_bytes(hub_context, world, dataset_id)


def test_what_killed_attempts_left_is_swept_once_the_inspection_is_over(hub_context: Context, world: World, dataset_id: str) -> None:
    step_id = world.inspect(dataset_id)
    run_and_be_killed(hub_context, world, step_id, fetch, "keep_files")  # files are stored, no row names them
    run_and_be_killed(hub_context, world, step_id, runner, "_complete_inspection")  # so are thumbnails
    run(hub_context, step_id)
    before = set(hub_context.store.keys("inspections/"))
    assert sweep_after_deletions(hub_context) == 0, "not before the last worker must have stopped"
    pass_grace(world)
    assert sweep_after_deletions(hub_context) > 0
    left = set(hub_context.store.keys("inspections/"))
    assert {key.split("/")[5] for key in before - left} == {"1", "2"}, "of the attempts that were killed"
    dataset = world.subject(dataset_id)
    assert left == {file["key"] for file in [*dataset.files, *dataset.inspection["thumbnails"]]}
    assert_ready_with_all_its_bytes(hub_context, world, dataset_id)


def test_what_is_still_being_inspected_is_not_swept(hub_context: Context, world: World, dataset_id: str) -> None:
    hub_context.store.put_bytes(f"inspections/{dataset_id}/steps/step_1/attempts/1/fetched/000000", b"not named yet")
    with world.sessions.begin() as session:
        ring(session, "sweep", "io", dataset_id, now=database_now(session))
    pass_grace(world)
    assert sweep_after_deletions(hub_context) == 0


def test_what_was_fetched_of_a_source_that_refused_is_let_go(
    hub_context: Context, world: World, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise SourceRefused("forbidden", "the token has expired")

    monkeypatch.setattr(fetch, "finish_fetch", refuse)
    run(hub_context, world.inspect(dataset_id))
    assert world.subject(dataset_id).status == "rejected"
    assert list(hub_context.store.keys(f"inspections/{dataset_id}/")) != []
    keep_house(hub_context.runtime)
    assert list(hub_context.store.keys(f"inspections/{dataset_id}/")) == []


def test_a_worker_without_its_lease_neither_holds_bytes_nor_reserves_room(context: Context, world: World, dataset_id: str) -> None:
    step_id = world.inspect(dataset_id)
    late = world.claimed(step_id)
    lose_lease(world)
    world.claimed(step_id)
    with pytest.raises(LeaseLost), world.sessions.begin() as session:
        hold_known(session, late, dataset_id, ["0" * 64])
    with pytest.raises(LeaseLost), world.sessions.begin() as session:
        reserve_bytes(session, context.settings, late, world.tenant_id, 1)
    with world.sessions() as session:
        assert session.scalars(select(BlobReferenceRow)).all() == []
    assert world.step(step_id).reserved_bytes is None
