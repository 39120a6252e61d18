"""The end of a job: its outputs become artifacts that clients can fetch, and its result names them."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.artifacts.tables import ArtifactRow
from app.blobs.service import adopt
from app.db import database_now
from app.ids import new_id
from app.jobs.leases import Lease, complete_step
from app.provenance.bundle import MEDIA_TYPE, SIGNATURE, sign_files
from app.provenance.keys import SigningKey
from workers.cache import ManifestFile
from workers.work import Work

_KINDS = {
    "model.zip": "weights",
    "adapter.zip": "adapter",
    "dataset.zip": "dataset",
    "manifest.json": "manifest",
    SIGNATURE: "signature",
}


def sign_job(key: SigningKey, job_id: str, published: dict[str, Any], outputs: Path) -> None:
    """Sign everything that the job hands out, the manifest too. Adds the signature to `outputs` and to what is published."""
    digests = {artifact["name"]: artifact["sha256"] for artifact in published["artifacts"]}
    content = sign_files(key, job_id, digests)
    (outputs / SIGNATURE).write_bytes(content)
    published["artifacts"].append(
        {
            "name": SIGNATURE,
            "step": "publish",
            "path": SIGNATURE,
            "media_type": MEDIA_TYPE,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    )


def publish_job(session: Session, lease: Lease, work: Work, published: dict[str, Any], files: list[ManifestFile]) -> None:
    """Complete the publish step, and with it the job. published: what `gpu_jobs.report.publish` returned; files: its stored outputs.

    Raises:
        app.jobs.leases.LeaseLost: the step is no longer ours.
    """
    artifacts = make_artifacts(work, published["artifacts"], files, now=database_now(session))
    result = name_artifacts(published["result"], {artifact.name: artifact.id for artifact in artifacts})
    if complete_step(session, lease, result=result, outputs={"files": files}):
        session.add_all(artifacts)
        for row in artifacts:
            adopt(session, tenant_id=row.tenant_id, owner_id=row.id, key=row.key, sha256=row.sha256, bytes=row.bytes)


def make_artifacts(work: Work, published: list[dict[str, Any]], outputs: list[ManifestFile], *, now: datetime) -> list[ArtifactRow]:
    """Rows for the files that the publish step names. They stay where the steps stored them: nothing is copied.

    published: `{name, step, path, media_type, sha256}` each, `step` and `path` saying which step's output it is.

    Raises:
        KeyError: a file is named that no step stored, or that was stored with other bytes.
    """
    stored = {("publish", file["path"], file["sha256"]): file for file in outputs}
    stored |= {(step.kind, file["path"], file["sha256"]): file for step in work.previous for file in step.files}
    # Lists show the newest first: ids fall as names rise, so that the files of one job are listed by name.
    ids = sorted((new_id("art") for _ in published), reverse=True)
    rows = []
    for id, artifact in zip(ids, sorted(published, key=lambda artifact: artifact["name"]), strict=True):
        file = stored[artifact["step"], artifact["path"], artifact["sha256"]]
        rows.append(
            ArtifactRow(
                id=id,
                tenant_id=work.tenant_id,
                job_id=work.job_id,
                name=artifact["name"],
                kind=_kind(artifact["name"]),
                key=file["key"],
                sha256=file["sha256"],
                bytes=file["bytes"],
                media_type=artifact["media_type"],
                created_at=now,
            )
        )
    return rows


def name_artifacts(result: Any, ids: dict[str, str]) -> Any:
    """The result with ids in place of the names that its `…artifact_id` fields hold.

    Raises:
        KeyError: a field names a file that is no artifact.
    """
    if not isinstance(result, dict):
        return result
    return {
        field: ids[value] if field.endswith("artifact_id") and value is not None else name_artifacts(value, ids)
        for field, value in result.items()
    }


def _kind(name: str) -> str:
    if name in _KINDS:
        return _KINDS[name]
    folder, _, rest = name.partition("/")
    return {"model": "weights", "adapter": "adapter", "saliency": "picture"}.get(folder, "file") if rest else name.partition(".")[0]
