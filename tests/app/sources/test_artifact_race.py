"""A model made of a job's artifact keeps its bytes, also where the job is deleted at the same moment."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from app.artifacts.tables import ArtifactRow
from app.auth.service import Caller
from app.blobs.service import adopt, sweep
from app.db import database_now
from app.errors import NotFound
from app.ids import new_id
from app.jobs.service import delete_job
from app.models.tables import ModelRow
from app.sources.schemas import ArtifactSource
from app.sources.service import register
from tests.worlds.api import Server, Tenant
from tests.worlds.jobs import World


@pytest.fixture
def artifact(server: Server, tenant: Tenant) -> ArtifactRow:
    """Of a job that is over."""
    world = World(server.runtime.write, tenant.tenant_id)
    job_id = world.job()
    world.cancel(job_id)
    key, sha256 = f"jobs/{job_id}/steps/step_1/attempts/1/model.zip", "0" * 64
    server.runtime.store.put_bytes(key, b"weights")
    with world.sessions.begin() as session:
        fields: dict[str, Any] = {"kind": "weights", "media_type": "application/zip", "created_at": database_now(session)}
        row = ArtifactRow(
            id=new_id("art"), tenant_id=tenant.tenant_id, job_id=job_id, name="model.zip", key=key, sha256=sha256, bytes=7, **fields
        )
        session.add(row)
        adopt(session, tenant_id=row.tenant_id, owner_id=row.id, key=key, sha256=sha256, bytes=7)
    return row


# SQLite lets one writer in at a time: there is no such moment.
@pytest.mark.parametrize("server", ["production"], indirect=True)
class TestArtifactSource:
    def test_holds_the_bytes_before_the_job_can_be_deleted(self, server: Server, tenant: Tenant, artifact: ArtifactRow) -> None:
        runtime, caller = server.runtime, Caller(tenant.tenant_id, "key_1", frozenset())

        def delete() -> None:
            with runtime.write.begin() as session:
                delete_job(session, caller, artifact.job_id)
            sweep(runtime.write, runtime.store)

        deleting = threading.Thread(target=delete)
        with runtime.write.begin() as session:
            register(session, caller, ModelRow, "copy", ArtifactSource(type="artifact", artifact_id=artifact.id))
            deleting.start()
            deleting.join(0.3)
            assert deleting.is_alive(), "it waits until the model is in"
        deleting.join()
        assert b"".join(runtime.store.open_range(artifact.key)) == b"weights"

    def test_is_gone_once_the_job_is_being_deleted(self, server: Server, tenant: Tenant, artifact: ArtifactRow) -> None:
        runtime, caller = server.runtime, Caller(tenant.tenant_id, "key_1", frozenset())
        outcome: list[object] = []

        def make() -> None:
            try:
                with runtime.write.begin() as session:
                    register(session, caller, ModelRow, "copy", ArtifactSource(type="artifact", artifact_id=artifact.id))
            except NotFound as error:
                outcome.append(error.errors[0].pointer)

        making = threading.Thread(target=make)
        with runtime.write.begin() as session:
            delete_job(session, caller, artifact.job_id)
            session.flush()
            making.start()
            making.join(0.3)
            assert making.is_alive(), "it waits to see what becomes of the job"
        making.join()
        assert outcome == ["/source/artifact_id"]
