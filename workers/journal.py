"""The log of one attempt at a step, which becomes an artifact of its job: what was done, when, in words its owner may read.

What libraries log, and what went wrong inside of the service, is the operator's: it goes to the process's own log.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import threading
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app.artifacts.tables import LOG, ArtifactRow
from app.blobs.service import adopt
from app.db import database_now
from app.ids import new_id
from app.jobs.attempts import name_log
from app.jobs.leases import Lease
from app.jobs.tables import StepRow
from app.storage import ObjectStore
from workers.cache import ManifestFile

log = structlog.get_logger()

LINES_AT_MOST = 50_000
STORE_SECONDS = 3.0
# A job that is being cancelled is over in five seconds, and its log is not what it waits for.
HURRIED_STORE_SECONDS = 0.5
MEDIA_TYPE = "application/jsonl"


class Journal:
    """Lines of JSON, `{"at": RFC 3339, "event": …, …}` each; `LINES_AT_MOST` of them are kept, and the line of how it ended."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, event: str, **values: Any) -> None:
        if len(self._lines) < LINES_AT_MOST:
            self._lines.append(_line(event, values))

    def store(self, store: ObjectStore, lease: Lease, end: str, *, hurried: bool = False, **values: Any) -> ManifestFile | None:
        """Put away what was written, `end` as its last line; None where the store would not have it: no step fails for its log.

        hurried: wait for the store for `HURRIED_STORE_SECONDS` only.
        """
        content = "".join((*self._lines, _line(end, values))).encode()
        # Never a key twice: what looked like a commit that failed may have named the first one.
        key = f"jobs/{lease.job_id}/steps/{lease.step_id}/logs/{lease.attempt}-{secrets.token_hex(4)}"
        stored = threading.Event()

        def put() -> None:
            try:
                store.put_bytes(key, content)
            except Exception as error:  # noqa: BLE001  (whatever the store raises)
                log.warning("log.not_stored", error=f"{type(error).__name__}: {error}")
            else:
                stored.set()

        putting = threading.Thread(target=put, name="journal", daemon=True)
        putting.start()
        putting.join(HURRIED_STORE_SECONDS if hurried else STORE_SECONDS)  # what arrives later is swept
        if not stored.is_set():
            return None
        return ManifestFile(path=f"attempt-{lease.attempt}.jsonl", key=key, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def publish_log(session: Session, lease: Lease, file: ManifestFile) -> None:
    """Make the stored log an artifact of the job, named by the attempt; part of the transaction that ends the attempt."""
    step = session.get(StepRow, lease.step_id)
    if step is None or step.job_id is None:
        return
    shard = f"-{step.shard}" if step.shards > 1 else ""
    row = ArtifactRow(
        id=new_id("art"),
        tenant_id=step.tenant_id,
        job_id=step.job_id,
        name=f"logs/{step.kind}{shard}.{file['path']}",
        kind=LOG,
        key=file["key"],
        sha256=file["sha256"],
        bytes=file["bytes"],
        media_type=MEDIA_TYPE,
        created_at=database_now(session),
    )
    session.add(row)
    adopt(session, tenant_id=row.tenant_id, owner_id=row.id, key=row.key, sha256=row.sha256, bytes=row.bytes)
    name_log(session, lease.step_id, lease.attempt, row.id)


def _line(event: str, values: dict[str, Any]) -> str:
    """NaN and infinity, which JSON does not know, become null."""
    values = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}
    return json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values}, ensure_ascii=False) + "\n"
