"""Models and data sets out of a repository of the hub, at one commit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from pathlib import Path

import pytest
from huggingface_hub import get_session
from huggingface_hub.errors import OfflineModeIsEnabled
from sqlalchemy import select

from app.datasets.tables import DatasetRow
from app.errors import QuotaExceeded
from app.jobs.tables import StepRow
from app.models.schemas import ModelResource
from app.models.tables import ModelRow
from app.quotas.repository import used_bytes
from app.quotas.service import admit_bytes
from app.sources.repository import delete_inspections
from tests.servers.hub import Hub, Repository
from tests.workers.fetching.conftest import SetCredential, with_settings
from tests.worlds.jobs import World
from workers.cache import CorruptObject
from workers.context import Context
from workers.fetching.huggingface import HubRepository
from workers.runner import run


def fetch(context: Context, world: World, repo_id: str, noun: str = "model", revision: str = "main") -> ModelRow | DatasetRow:
    make = world.model if noun == "model" else world.dataset
    subject_id = make(status="inspecting", source={"type": "huggingface", "repo_id": repo_id, "revision": revision})
    run(context, world.inspect(subject_id))
    return world.subject(subject_id)


def codes(subject: ModelRow | DatasetRow) -> list[str]:
    return [finding["code"] for finding in subject.findings]


class TestReady:
    def test_a_model_is_pinned_to_the_commit_of_its_branch(
        self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]
    ) -> None:
        repository = hub.repositories["models/lab/suspect"] = Repository(model_files)
        row = fetch(hub_context, world, "lab/suspect")
        assert row.status == "ready", row.findings
        assert isinstance(row, ModelRow)
        shown = ModelResource.of(row)
        assert shown.source == {"type": "huggingface", "repo_id": "lab/suspect", "revision": "main", "commit": repository.commit}
        weights = next(file for file in shown.files if file.path == "model.safetensors")
        assert weights.sha256 == weights.etag == hashlib.sha256(model_files["model.safetensors"]).hexdigest()

    def test_neither_pickles_nor_code_are_so_much_as_asked_for(
        self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]
    ) -> None:
        hub.repositories["models/lab/suspect"] = Repository(model_files)
        row = fetch(hub_context, world, "lab/suspect")
        assert not [path for path in hub.downloads if path.endswith((".bin", ".py"))]
        assert "pytorch_model.bin" in next(finding["detail"] for finding in row.findings if finding["code"] == "not_fetched")

    def test_a_data_set_comes_from_the_data_sets(
        self, hub_context: Context, world: World, hub: Hub, dataset_files: dict[str, bytes]
    ) -> None:
        hub.repositories["datasets/lab/set"] = Repository(dataset_files)
        row = fetch(hub_context, world, "lab/set", "dataset")
        assert row.status == "ready", row.findings
        assert codes(fetch(hub_context, world, "lab/set", "model")) == ["no_such_repo"]

    def test_a_download_that_breaks_off_is_taken_up_again(
        self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]
    ) -> None:
        hub.repositories["models/lab/suspect"] = Repository(model_files)
        hub.truncated = {"model.safetensors", "config.json"}
        row = fetch(hub_context, world, "lab/suspect")
        assert row.status == "ready", row.findings
        assert hub.truncated == set()

    def test_large_files_that_the_tenant_has_already_are_not_fetched_again(
        self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]
    ) -> None:
        hub.repositories["models/lab/suspect"] = Repository(model_files)
        hub.repositories["models/lab/copy"] = Repository({**model_files, "extra.json": b"{}"})
        assert [fetch(hub_context, world, repo_id).status for repo_id in ("lab/suspect", "lab/copy")] == ["ready", "ready"]
        assert hub.downloads["model.safetensors"] == 1

    def test_counts_as_stored_from_the_moment_it_is_listed(
        self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]
    ) -> None:
        hub.repositories["models/lab/suspect"] = Repository(model_files)
        hub.held = {"model.safetensors"}
        worker = threading.Thread(target=fetch, args=[hub_context, world, "lab/suspect"])
        worker.start()
        assert hub.reached.wait(60)
        with hub_context.reads() as session:
            listed = used_bytes(session, world.tenant_id)
        assert listed > len(model_files["model.safetensors"])
        tight = hub_context.settings.model_copy(update={"max_stored_bytes": listed + 100})
        with hub_context.sessions.begin() as session, pytest.raises(QuotaExceeded):
            admit_bytes(session, tight, world.tenant_id, 101)
        hub.released.set()
        worker.join()
        with hub_context.reads() as session:
            assert session.scalars(select(StepRow.reserved_bytes)).one() is None
            assert len(model_files["model.safetensors"]) < used_bytes(session, world.tenant_id) <= listed

    def test_a_private_one_opens_to_the_token_of_its_owner(
        self, hub_context: Context, world: World, hub: Hub, dataset_files: dict[str, bytes], set_credential: SetCredential
    ) -> None:
        hub.repositories["datasets/lab/set"] = Repository(dataset_files, token="hf_lab")
        assert codes(fetch(hub_context, world, "lab/set", "dataset")) == ["no_such_repo"]
        set_credential("huggingface", {"token": "hf_lab"}, scope="lab")
        assert fetch(hub_context, world, "lab/set", "dataset").status == "ready"


class TestAfterwards:
    def test_nothing_else_in_the_process_gets_past_the_offline_switch(
        self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]
    ) -> None:
        hub.repositories["models/lab/suspect"] = Repository(model_files)
        assert fetch(hub_context, world, "lab/suspect").status == "ready"
        with pytest.raises(OfflineModeIsEnabled):
            get_session().get(f"{hub.endpoint}/api/models/lab/suspect")


class TestStopping:
    """A hub that keeps the connection open and sends nothing more keeps nobody's worker."""

    def test_when_the_model_is_deleted(self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]) -> None:
        hub.repositories["models/lab/suspect"] = Repository(model_files)
        hub.held = {"model.safetensors"}
        subject_id = world.model(status="inspecting", source={"type": "huggingface", "repo_id": "lab/suspect", "revision": "main"})
        worker = threading.Thread(target=run, args=[hub_context, world.inspect(subject_id)])
        worker.start()
        assert hub.reached.wait(60)
        with world.sessions.begin() as session:
            delete_inspections(session, subject_id)
        worker.join(5)
        assert not worker.is_alive()

    def test_when_its_time_is_over(self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]) -> None:
        hub.repositories["models/lab/suspect"] = Repository(model_files)
        hub.held = {"model.safetensors"}
        row = fetch(with_settings(hub_context, max_fetch_seconds=1), world, "lab/suspect")
        assert (row.status, codes(row)) == ("rejected", ["too_slow"])

    def test_when_more_comes_than_was_listed(self, hub: Hub, tmp_path: Path) -> None:
        hub.repositories["models/lab/suspect"] = Repository({"config.json": b"x" * 500})
        origin = HubRepository(hub.endpoint, "model", "lab/suspect", "main", None)
        [file] = origin.list_files().files
        with pytest.raises(CorruptObject, match="more than the 100 bytes"):
            origin.fetch(dataclasses.replace(file, bytes=100), tmp_path / "file", lambda _: None)


class TestRejected:
    def test_gated(
        self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes], set_credential: SetCredential
    ) -> None:
        hub.repositories["models/lab/gated"] = Repository(model_files, token="hf_accepted", gated=True)
        row = fetch(hub_context, world, "lab/gated")
        assert (row.status, codes(row)) == ("rejected", ["gated"])
        assert "accept its terms" in row.findings[0]["detail"]
        set_credential("huggingface", {"token": "hf_accepted"})
        assert fetch(hub_context, world, "lab/gated").status == "ready"

    def test_no_such_revision(self, hub_context: Context, world: World, hub: Hub, model_files: dict[str, bytes]) -> None:
        hub.repositories["models/lab/suspect"] = Repository(model_files)
        assert codes(fetch(hub_context, world, "lab/suspect", revision="v9")) == ["no_such_revision"]

    @pytest.mark.parametrize("repo_id", ["lab/nothing", "lab/-not--valid-"])
    def test_no_such_repo(self, hub_context: Context, world: World, hub: Hub, repo_id: str) -> None:
        assert codes(fetch(hub_context, world, repo_id)) == ["no_such_repo"]

    @pytest.mark.parametrize("files", [{}, {"pytorch_model.bin": b"x"}])
    def test_empty(self, hub_context: Context, world: World, hub: Hub, files: dict[str, bytes]) -> None:
        hub.repositories["models/lab/empty"] = Repository(files)
        assert codes(fetch(hub_context, world, "lab/empty")) == ["empty"]

    @pytest.mark.parametrize("path", ["data.json", "large.jsonl"])
    def test_other_bytes_than_listed_are_never_kept(self, hub_context: Context, world: World, hub: Hub, path: str) -> None:
        hub.repositories["datasets/lab/set"] = Repository(
            {"data.json": b'[{"a": 1}]', "large.jsonl": json.dumps({"id": "x" * 2000}).encode()}
        )
        hub.lied_about = {path}
        subject_id = world.dataset(status="inspecting", source={"type": "huggingface", "repo_id": "lab/set", "revision": "main"})
        step_id = world.inspect(subject_id)
        run(hub_context, step_id)
        step = world.step(step_id)
        assert step.error is not None
        assert step.error["type"] == "urn:lustral:problem:damaged-bytes"
        assert world.subject(subject_id).files == []
