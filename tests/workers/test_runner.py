"""One step, from claim to completion or to any of its other ends."""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.artifacts.tables import ArtifactRow
from app.blobs.service import release
from app.blobs.tables import BlobReferenceRow, BlobRow
from app.datasets.tables import DatasetRow
from app.jobs.leases import complete_step
from app.jobs.tables import JobRow, StepRow
from app.models.tables import ModelRow
from app.provenance.bundle import verify_bundle
from gpu_jobs.config import StepKind
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs
from tests.workers.conftest import Stored
from tests.worlds.jobs import World
from workers import heartbeat, interruption, runner, shutdown
from workers.context import Context
from workers.reaper import reap
from workers.runner import run
from workers.sweeper import sweep_deleted, sweep_job

Step = Callable[[StepKind, StepInputs, Reporter], dict[str, Any]]


def write_something(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Every step leaves a file that says which one it was; the last one publishes them."""
    (inputs.outputs / f"{kind}.txt").write_text(f"{kind} {inputs.shard}")
    if kind != "publish":
        return {"kind": kind, "shard": inputs.shard}
    from gpu_jobs.report.artifacts import describe_artifact

    folder = inputs.previous["verdict"][0]
    artifacts = [describe_artifact("verdict", folder, folder / "verdict.txt")]
    artifacts.append(describe_artifact("publish", inputs.outputs, inputs.outputs / "publish.txt"))
    result = {"verdict": "clean", "suspects": {"count": 0, "artifact_id": "verdict.txt"}, "adapter_artifact_id": None}
    return {"result": result, "artifacts": [artifact.to_json() for artifact in artifacts]}


def run_to_end(context: Context, world: World, job_id: str, step: Step = write_something) -> None:
    while world.get(job_id).finished_at is None:
        ready = [each.id for each in world.steps(job_id) if each.status == "ready"]
        assert ready, f"the job hangs: {world.statuses(job_id)}"
        for step_id in ready:
            run(context, step_id, step)


class TestInputs:
    def test_are_laid_out_as_their_manifests_say(self, context: Context, world: World, stored: Stored) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("data/train.json", "[]")
            opened.writestr("data/images/1.png", "picture")
        model_id = world.model(files=[stored("config.json", b"{}"), stored("weights/part-1.safetensors", b"weights")])
        dataset_id = world.dataset(files=[stored("data.zip", archive.getvalue(), archive=True)])
        job_id = world.job(model_id=model_id, dataset_id=dataset_id, shards=2)
        seen: dict[str, Any] = {}

        def look(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            assert inputs.model is not None
            assert inputs.dataset is not None
            for root in (inputs.model, inputs.dataset):
                seen[root.name] = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}
            seen["about"] = inputs.about
            seen["shard"] = (inputs.shard, inputs.shards)
            seen["empty"] = [*inputs.outputs.iterdir(), *inputs.checkpoint.iterdir()]
            return {}

        run(context, world.steps(job_id, "scan")[1].id, look)
        assert seen["model"] == {"config.json": "{}", "weights/part-1.safetensors": "weights"}
        assert seen["dataset"] == {"train.json": "[]", "images/1.png": "picture"}
        assert (seen["about"]["job_id"], seen["about"]["model_id"], seen["shard"], seen["empty"]) == (job_id, model_id, (1, 2), [])

    def test_include_what_earlier_steps_wrote_and_returned(self, context: Context, world: World) -> None:
        job_id = world.job(shards=2)
        for step in world.steps(job_id, "scan"):
            run(context, step.id, write_something)
        seen: dict[str, Any] = {}

        def look(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            seen["files"] = [(folder / "scan.txt").read_text() for folder in inputs.previous["scan"]]
            seen["results"] = list(inputs.results["scan"])
            return {}

        run(context, world.steps(job_id, "verdict")[0].id, look)
        assert seen["files"] == ["scan 0", "scan 1"]
        assert seen["results"] == [{"kind": "scan", "shard": 0}, {"kind": "scan", "shard": 1}]

    def test_are_only_those_that_a_step_reads_however_many_parts_there_are(self, context: Context, world: World) -> None:
        job_id = world.job("purify", shards=3)
        seen: dict[str, list[str]] = {}

        def look(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            folders = [f"{earlier}-{part}" for earlier, parts in inputs.previous.items() for part in range(len(parts))]
            seen[kind] = sorted(folders)
            return {"result": {}, "artifacts": []}

        run_to_end(context, world, job_id, look)
        scans, purifies = [f"scan-{part}" for part in range(3)], [f"purify-{part}" for part in range(3)]
        assert seen["verdict"] == scans
        assert seen["purify"] == ["forget-0", "verdict-0"]
        assert seen["merge"] == ["forget-0", *purifies, "verdict-0"]
        assert seen["publish"] == ["forget-0", "merge-0", *purifies, *scans, "verdict-0"]

    def test_that_are_damaged_in_the_store_are_never_handed_to_a_step(self, context: Context, world: World, stored: Stored) -> None:
        file = stored("config.json", b"{}")
        context.store.put_bytes(file["key"], b"{ }")
        job_id = world.job(model_id=world.model(files=[file]), shards=1, max_attempts=1)
        run(context, world.steps(job_id, "scan")[0].id, write_something)
        error = world.get(job_id).error
        assert error is not None
        assert "are not those that were stored" in error["detail"]


class TestSuccess:
    def test_leaves_artifacts_that_the_result_names(self, context: Context, world: World) -> None:
        job_id = world.job(shards=2)
        run_to_end(context, world, job_id)
        job = world.get(job_id)
        with world.sessions() as session:
            artifacts = {row.name: row for row in session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job_id))}
        assert job.status == "succeeded"
        assert set(artifacts) == {"verdict.txt", "publish.txt", "model.sig"}
        assert job.result == {
            "verdict": "clean",
            "suspects": {"count": 0, "artifact_id": artifacts["verdict.txt"].id},
            "adapter_artifact_id": None,
        }
        assert b"".join(context.store.open_range(artifacts["verdict.txt"].key)) == b"verdict 0"

    def test_signs_every_artifact_and_says_with_which_key(self, context: Context, world: World) -> None:
        about: dict[str, str] = {}

        def look(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            about.update(inputs.about)
            return write_something(kind, inputs, reporter)

        job_id = world.job(shards=1)
        run_to_end(context, world, job_id, look)
        with world.sessions() as session:
            artifacts = {row.name: row for row in session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job_id))}
        signature = artifacts.pop("model.sig")
        assert signature.kind == "signature"
        key = context.runtime.signing_key.public
        assert about["signing_key"] == key.fingerprint
        content = b"".join(context.store.open_range(signature.key))
        assert verify_bundle(content, key) == {name: row.sha256 for name, row in artifacts.items()}

    def test_leaves_no_scratch_behind(self, context: Context, world: World) -> None:
        run_to_end(context, world, world.job(shards=1))
        assert list((context.work / "scratch").iterdir()) == []

    def test_of_a_step_is_told_once_however_often_the_bell_rings(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id
        calls = []

        def count(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            calls.append(kind)
            run(context, step_id, write_something)  # the same message again, while the step runs
            return {}

        run(context, step_id, count)
        run(context, step_id, count)
        assert calls == ["scan"]


class TestFailure:
    def test_of_the_step_is_retried_then_ends_the_job_with_its_reason(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=2)
        step_id = world.steps(job_id, "scan")[0].id

        def explode(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            raise RuntimeError(f"cannot read {inputs.outputs}: [SQL: SELECT sealed]")

        with capture_logs() as logged:
            run(context, step_id, explode)
            assert world.step(step_id).status == "ready"
            world.pass_time(not_before=timedelta(hours=1))
            run(context, step_id, explode)
        job = world.get(job_id)
        assert job.status == "failed"
        assert job.error is not None
        assert "failed 2 times" in job.error["detail"]
        assert "SELECT" not in json.dumps(job.error), "what is inside is nobody's business"
        assert str(context.work) not in json.dumps(job.error)
        first, last = [line for line in logged if line["event"] == "step.failed"]
        assert "SELECT" in str(last["exc_info"])
        assert last["reference"] in job.error["detail"], "the operator can find it"
        [told] = [event.data["detail"] for event in world.events(job_id) if event.type == "job.retrying"]
        assert first["reference"] in told

    def test_before_there_is_a_folder_to_work_in_is_a_failed_attempt_like_any_other(self, context: Context, world: World) -> None:
        shutil.rmtree(context.work / "scratch")
        (context.work / "scratch").touch()
        step_id = world.steps(world.job(shards=1), "scan")[0].id
        run(context, step_id, write_something)
        step = world.step(step_id)
        assert (step.status, step.attempt) == ("ready", 1)

    def test_of_the_input_is_final(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=5)

        def refuse(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            raise InputError("sample 7 has no answer")

        run(context, world.steps(job_id, "scan")[0].id, refuse)
        job = world.get(job_id)
        assert (job.status, job.error) == (
            "failed",
            {"type": "urn:lustral:problem:input-refused", "title": "An input cannot be used", "detail": "sample 7 has no answer"},
        )


AWAY = OperationalError("UPDATE", {}, Exception("server closed the connection"))


class TestOutage:
    """Of what every step needs. It must cost no attempt: the job below has only one."""

    @pytest.fixture
    def step_id(self, world: World) -> str:
        return world.steps(world.job(shards=1, max_attempts=1), "scan")[0].id

    @pytest.fixture(autouse=True)
    def _quietly(self) -> Iterator[None]:
        with capture_logs():  # drawing a traceback takes longer than all else here
            yield

    def test_while_a_step_runs_is_not_held_against_it(self, context: Context, world: World, step_id: str) -> None:
        def fail(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            raise AWAY

        for _ in range(8):
            run(context, step_id, fail)
            world.pass_time(not_before=timedelta(minutes=1))
        run(context, step_id, write_something)
        step = world.step(step_id)
        assert (step.status, step.attempt) == ("succeeded", 9)

    def test_that_never_ends_is_given_up_in_the_end(self, context: Context, world: World, step_id: str) -> None:
        def fail(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            raise AWAY

        run(context, step_id, fail)
        with world.sessions.begin() as session:
            step = session.get_one(StepRow, step_id)
            assert step.error is not None
            begun = datetime.fromisoformat(step.error["spared"]["since"]) - timedelta(minutes=31)
            step.error = {**step.error, "spared": {**step.error["spared"], "since": begun.isoformat()}}
        world.pass_time(not_before=timedelta(minutes=1))
        run(context, step_id, fail)
        assert world.step(step_id).status == "failed"

    def test_at_the_end_is_waited_for(self, context: Context, world: World, step_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
        put_file = context.store.put_file
        failures = [OSError(errno.ENOSPC, "No space left on device"), ConnectionResetError(), AWAY]

        def put(key: str, path: Path) -> None:
            if len(failures) > 1:
                raise failures.pop(0)
            put_file(key, path)

        def complete(*arguments: Any, **options: Any) -> bool:
            if failures:
                raise failures.pop()
            return complete_step(*arguments, **options)

        monkeypatch.setattr(context.store, "put_file", put)
        monkeypatch.setattr(runner, "complete_step", complete)
        run(context, step_id, write_something)
        step = world.step(step_id)
        assert (step.status, step.attempt, failures) == ("succeeded", 1, [])

    def test_of_the_disk_is_told_from_what_libraries_make_of_it(
        self, context: Context, world: World, step_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def save(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            usage = shutil.disk_usage(inputs.outputs)._replace(free=0)
            monkeypatch.setattr("workers.context.shutil.disk_usage", lambda _: usage)
            raise RuntimeError("PytorchStreamWriter failed writing file data/0")

        run(context, step_id, save)
        step = world.step(step_id)
        assert step.status == "ready"
        assert step.error is not None
        assert step.error["type"] == "urn:lustral:problem:disk-full"


class TestStopping:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "NUDGE_EVERY", 0.05)
        monkeypatch.setattr(interruption, "TICK_SECONDS", 0.05)

    def test_a_pattern_that_takes_for_ever_starves_no_heartbeat_and_ends_with_its_job(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id
        renewed: list[bool] = []

        def match(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            claimed = world.step(step_id).lease_expires_at

            def cancel_once_renewed() -> None:
                while world.step(step_id).lease_expires_at == claimed:
                    threading.Event().wait(0.01)
                renewed.append(True)
                world.cancel(job_id)

            threading.Thread(target=cancel_once_renewed).start()
            re.search(r"(a+)+$", "a" * 28 + "b")  # half a minute, in which no other thread has a turn
            raise AssertionError("nobody stopped the pattern")

        run(context, step_id, match)
        assert renewed == [True]
        assert world.get(job_id).status == "cancelled"

    def test_a_step_that_waits_in_vain_is_cut_short(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        waited_out: list[bool] = []

        def wait(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            world.cancel(job_id)
            try:
                threading.Event().wait(30)
            except Exception:  # noqa: BLE001  (as code does that sets bad samples aside)
                threading.Event().wait(30)
            waited_out.append(True)
            return {}

        assert run(context, world.steps(job_id, "scan")[0].id, wait) is False, "who knows what was half done"
        assert world.get(job_id).status == "cancelled"
        assert waited_out == []

    def test_a_cancelled_job_stops_its_step_in_mid_work(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)

        def work_until_stopped(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            world.cancel(job_id)
            return _report_until_cancelled(reporter)

        run(context, world.steps(job_id, "scan")[0].id, work_until_stopped)
        assert world.get(job_id).status == "cancelled"

    def test_a_lost_lease_stops_the_step_and_nothing_it_did_counts(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id

        def lose_the_lease(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            world.pass_time(lease_expires_at=timedelta(hours=1))
            # The heartbeat may renew in between; once another worker has the step, nothing brings it back.
            while not reap(world.sessions):
                world.pass_time(lease_expires_at=timedelta(hours=1))
            world.claimed(step_id, worker="worker-2")
            return _report_until_cancelled(reporter)

        run(context, step_id, lose_the_lease)
        step = world.step(step_id)
        assert (step.status, step.worker, step.attempt, step.outputs) == ("running", "worker-2", 2, None)

    def test_a_worker_that_must_go_saves_and_hands_back(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1, max_attempts=1)
        step_id = world.steps(job_id, "scan")[0].id

        def first_half(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            (inputs.checkpoint / "answers.jsonl").write_text("half")
            shutdown.request()
            reporter.checkpoint()
            raise AssertionError("a worker that must go does not go on")

        def second_half(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            return {"resumed": (inputs.checkpoint / "answers.jsonl").read_text()}

        run(context, step_id, first_half)
        assert world.step(step_id).status == "ready"
        shutdown.forget()
        run(context, step_id, second_half)
        assert world.step(step_id).result == {"resumed": "half"}


class TestCheckpoints:
    def test_survive_the_worker(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id

        def die_after_saving(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            (inputs.checkpoint / "done.jsonl").write_text("1 2 3")
            (inputs.checkpoint / "state").mkdir()
            (inputs.checkpoint / "state" / "rng").write_text("seed")
            reporter.checkpoint()
            raise MemoryError

        run(context, step_id, die_after_saving)
        world.pass_time(not_before=timedelta(hours=1))
        found = {}

        def resume(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            found.update({path.name: path.read_text() for path in inputs.checkpoint.rglob("*") if path.is_file()})
            return {}

        run(context, step_id, resume)
        assert found == {"done.jsonl": "1 2 3", "rng": "seed"}
        assert [key for key in context.store.keys(f"jobs/{job_id}/") if "checkpoints" in key] == [], "nobody needs it any more"

    def test_that_are_damaged_are_not_resumed_from(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id

        def die_after_saving(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            (inputs.checkpoint / "done.jsonl").write_text("1 2 3")
            reporter.checkpoint()
            raise MemoryError

        run(context, step_id, die_after_saving)
        [key] = context.store.keys(f"jobs/{job_id}/")
        context.store.put_bytes(key, b"1 2 4")
        world.pass_time(not_before=timedelta(hours=1))

        def start_over(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            return {"found": len(list(inputs.checkpoint.iterdir()))}

        run(context, step_id, start_over)
        assert world.step(step_id).result == {"found": 0}


class TestInspection:
    def test_of_a_data_set_stores_facts_and_thumbnails(self, context: Context, world: World, stored: Stored) -> None:
        from PIL import Image

        picture = io.BytesIO()
        Image.new("RGB", (32, 32), "red").save(picture, "PNG")
        rows = [
            {"id": "1", "image": "1.png", "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}]}
        ]
        dataset_id = world.dataset(
            status="inspecting", files=[stored("data.json", json.dumps(rows).encode()), stored("1.png", picture.getvalue())]
        )
        run(context, world.inspect(dataset_id))
        with world.sessions() as session:
            row = session.get_one(DatasetRow, dataset_id)
        assert row.status == "ready", row.findings
        assert row.inspection["samples"] == 1
        [thumbnail] = row.inspection["thumbnails"]
        assert context.store.size(thumbnail["key"]) == thumbnail["bytes"]

    def test_rejects_an_archive_that_climbs_out_and_says_so(self, context: Context, world: World, stored: Stored) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("../../evil", "x")
        model_id = world.model(status="inspecting", files=[stored("model.zip", archive.getvalue(), archive=True)])
        run(context, world.inspect(model_id))
        with world.sessions() as session:
            row = session.get_one(ModelRow, model_id)
        assert row.status == "rejected"
        assert row.findings[0]["code"] == "bad_archive"

    def test_of_something_deleted_meanwhile_ends_quietly(self, context: Context, world: World) -> None:
        model_id = world.model(status="inspecting")
        step_id = world.inspect(model_id)
        with world.sessions.begin() as session:
            session.delete(session.get_one(ModelRow, model_id))
        run(context, step_id)
        assert world.step(step_id).status == "cancelled"


class TestSweeping:
    def test_deletes_what_failed_attempts_left_and_keeps_what_counts(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        step_id = world.steps(job_id, "scan")[0].id
        context.store.put_bytes(f"jobs/{job_id}/steps/{step_id}/attempts/0/half-written", b"x")
        run_to_end(context, world, job_id)
        before = set(context.store.keys(f"jobs/{job_id}/"))
        assert sweep_job(context, job_id) == 1
        assert before - set(context.store.keys(f"jobs/{job_id}/")) == {f"jobs/{job_id}/steps/{step_id}/attempts/0/half-written"}

    def test_of_a_deleted_job_spares_what_became_part_of_something_else(self, context: Context, world: World) -> None:
        job_id = world.job(shards=1)
        run_to_end(context, world, job_id)
        with world.sessions.begin() as session:
            kept, *gone = session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job_id).order_by(ArtifactRow.name.desc())).all()
            session.add(BlobReferenceRow(blob_id=_blob_of(session, kept.key), owner_id="model_made_of_it"))
            release(session, kept.id)
            session.delete(session.get_one(JobRow, job_id))
        assert sweep_deleted(context, job_id) > 0
        left = set(context.store.keys(f"jobs/{job_id}/"))
        assert kept.key in left
        assert left <= {kept.key, *(row.key for row in gone)}


def _blob_of(session: Any, key: str) -> str:
    found: str = session.scalars(select(BlobRow.id).where(BlobRow.key == key)).one()
    return found


def _report_until_cancelled(reporter: Reporter) -> dict[str, Any]:
    never = threading.Event()
    for done in range(10_000):
        reporter.progress(done, 10_000, "samples")
        never.wait(0.005)
    raise AssertionError("nobody stopped the step")
