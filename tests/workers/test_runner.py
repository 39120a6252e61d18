"""One step, from claim to completion or to any of its other ends."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from structlog.testing import capture_logs

from app.artifacts.tables import LOG, ArtifactRow
from app.datasets.tables import DatasetRow
from app.models.tables import ModelRow
from app.provenance.bundle import verify_bundle
from gpu_jobs.config import StepKind
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs
from tests.workers.conftest import Stored
from tests.workers.running import run_to_end, write_something
from tests.worlds.jobs import World
from workers.context import Context
from workers.runner import run


def handed_out(world: World, job_id: str) -> dict[str, ArtifactRow]:
    """The job's artifacts but for logs, by name."""
    with world.sessions() as session:
        found = select(ArtifactRow).where(ArtifactRow.job_id == job_id, ArtifactRow.kind != LOG)
        return {row.name: row for row in session.scalars(found)}


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

    def test_name_the_model_by_its_bytes_so_that_it_can_stay_warm(self, context: Context, world: World, stored: Stored) -> None:
        files = [stored("config.json", b"{}"), stored("model.safetensors", b"weights")]
        other = [stored("config.json", b"{}"), stored("model.safetensors", b"others")]
        jobs = [world.job(model_id=world.model(files=each), shards=2) for each in (files, files, other)]
        named: list[str] = []

        def look(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
            assert inputs.model is not None
            named.append(inputs.digests[inputs.model])
            return {}

        for job_id in jobs:
            for step in world.steps(job_id, "scan"):
                run(context, step.id, look)
        assert [named.count(each) for each in named] == [4, 4, 4, 4, 2, 2]

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
        artifacts = handed_out(world, job_id)
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
        artifacts = handed_out(world, job_id)
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
        [key] = (key for key in context.store.keys(f"jobs/{job_id}/") if "/checkpoints/" in key)
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
