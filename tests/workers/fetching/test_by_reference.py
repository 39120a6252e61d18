"""The whole way: credentials over the API, addresses on the command line, a worker, and a job on what it fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from app.jobs.tables import StepRow
from app.settings import Settings
from tests.servers.hub import Hub, Repository
from tests.servers.seaweedfs import SeaweedFS
from tests.worlds.api import Tenant, expect, run_server
from workers.context import Context, make_context
from workers.runner import run


@pytest.fixture
def settings(tmp_path: Path, hub: Hub) -> Settings:
    return Settings(
        database_url=f"sqlite:///{tmp_path / 'lustral.db'}",
        broker_url="memory://",
        storage_url=f"file://{tmp_path / 'objects'}",
        secret_key="0123456789abcdef0123456789abcdef",
        work_dir=tmp_path / "work",
        credential_keys=Fernet.generate_key().decode(),
        allow_private_sources=True,
        huggingface_endpoint=hub.endpoint,
    )


@pytest.fixture
def tenant(settings: Settings) -> Iterator[Tenant]:
    with run_server(settings) as server, server.new_tenant() as somebody:
        yield somebody


@pytest.fixture
def worker(tenant: Tenant, settings: Settings) -> Iterator[Context]:
    made = make_context(settings)
    yield made
    made.runtime.close()


def inspect_all(worker: Context) -> None:
    with worker.reads() as session:
        ready = session.scalars(select(StepRow.id).where(StepRow.status == "ready", StepRow.queue == "io")).all()
    for step_id in ready:
        run(worker, step_id)


def test_from_addresses_to_a_job(
    tenant: Tenant,
    worker: Context,
    hub: Hub,
    seaweedfs: SeaweedFS,
    bucket: str,
    model_files: dict[str, bytes],
    dataset_files: dict[str, bytes],
) -> None:
    for path, data in model_files.items():
        seaweedfs.client().put_object(Bucket=bucket, Key=f"suspect/{path}", Body=data)
    hub.repositories["datasets/lab/set"] = Repository(dataset_files, token="hf_lab")
    secrets = {"access_key_id": seaweedfs.access_key, "secret_access_key": seaweedfs.secret_key}
    expect(tenant.post("/v1/credentials", json={"type": "s3", "scope": bucket, "endpoint_url": seaweedfs.endpoint_url, **secrets}), 201)
    expect(tenant.post("/v1/credentials", json={"type": "huggingface", "token": "hf_lab"}), 201)

    command = [sys.executable, "-m", "app.cli", "scan", f"s3://{bucket}/suspect", "hf://datasets/lab/set@main", "--json"]
    environment = {**os.environ, "LUSTRAL_SERVER": tenant.server.url, "LUSTRAL_API_KEY": tenant.key}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as lustral:
        while lustral.poll() is None:
            inspect_all(worker)
            time.sleep(0.05)
        printed, complaints = lustral.communicate()
    assert lustral.returncode == 0, complaints
    job = json.loads(printed)
    model = expect(tenant.get(f"/v1/models/{job['model_id']}"), 200)
    dataset = expect(tenant.get(f"/v1/datasets/{job['dataset_id']}"), 200)
    assert (model["status"], model["family"], dataset["status"], dataset["counts"]["samples"]) == ("ready", "llada_v", "ready", 3)
    assert dataset["source"]["commit"] == hub.repositories["datasets/lab/set"].commit
    assert all(len(file["sha256"]) == 64 and file["etag"] for file in [*model["files"], *dataset["files"]])


def test_progress_is_shown_while_files_arrive(tenant: Tenant, worker: Context, hub: Hub, dataset_files: dict[str, bytes]) -> None:
    hub.repositories["datasets/lab/set"] = Repository(dataset_files)
    hub.lied_about = {"data.json"}  # so that the attempt ends while the data set is still being fetched
    source = {"type": "huggingface", "repo_id": "lab/set", "revision": "main"}
    created = expect(tenant.post("/v1/datasets", json={"name": "set", "source": source}), 201)
    inspect_all(worker)
    shown = expect(tenant.get(f"/v1/datasets/{created['id']}"), 200)
    assert shown["status"] == "inspecting"
    assert shown["progress"]["unit"] == "bytes"
    assert 0 <= shown["progress"]["done"] <= shown["progress"]["total"]
    assert shown["progress"]["total"] == sum(len(data) for path, data in dataset_files.items() if path.endswith((".json", ".png")))


def test_deleting_it_deletes_what_was_fetched(tenant: Tenant, worker: Context, hub: Hub, dataset_files: dict[str, bytes]) -> None:
    hub.repositories["datasets/lab/set"] = Repository(dataset_files)
    source = {"type": "huggingface", "repo_id": "lab/set", "revision": "main"}
    created = expect(tenant.post("/v1/datasets", json={"name": "set", "source": source}), 201)
    inspect_all(worker)
    assert [file for file in worker.store.keys(f"inspections/{created['id']}/") if "/fetched/" in file] != []
    assert tenant.delete(f"/v1/datasets/{created['id']}").status_code == 204
    assert [file for file in worker.store.keys(f"inspections/{created['id']}/") if "/fetched/" in file] == []
