"""Artifacts of jobs that never ran."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from app.artifacts.tables import ArtifactRow
from app.blobs.service import adopt
from app.ids import new_id
from app.jobs.tables import JobRow
from tests.worlds.api import Tenant

CONTENT = bytes(range(256)) * 8192  # 2 MiB


def finished_job(tenant: Tenant) -> str:
    with tenant.server.runtime.write.begin() as session:
        now = datetime.now(UTC)
        job = JobRow(
            id=new_id("job"),
            tenant_id=tenant.tenant_id,
            kind="defend",
            status="succeeded",
            model_id="model_1",
            parameters={},
            job_metadata={},
            created_at=now,
            finished_at=now,
        )
        session.add(job)
        return job.id


def leave(tenant: Tenant, job_id: str, name: str, content: bytes = CONTENT, *, kind: str = "weights") -> str:
    """Store an artifact as the last step of a job does."""
    runtime = tenant.server.runtime
    key = f"jobs/{job_id}/steps/step_1/attempts/1/{name}"
    runtime.store.put_bytes(key, content)
    sha256 = hashlib.sha256(content).hexdigest()
    with runtime.write.begin() as session:
        row = ArtifactRow(
            id=new_id("art"),
            tenant_id=tenant.tenant_id,
            job_id=job_id,
            name=name,
            kind=kind,
            key=key,
            sha256=sha256,
            bytes=len(content),
            media_type="application/octet-stream",
            created_at=datetime.now(UTC),
        )
        session.add(row)
        adopt(session, tenant_id=tenant.tenant_id, owner_id=row.id, key=key, sha256=sha256, bytes=len(content))
        return row.id
