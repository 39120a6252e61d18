"""Putting an upload together and verifying it: reading every byte once may outlast the request that asked for it."""

from __future__ import annotations

import hashlib
import threading
import time
from contextvars import copy_context
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.audit.service import record_audit
from app.auth.service import Caller
from app.blobs import repository as blobs_repository
from app.blobs.service import adopt, discard, hold, sweep
from app.db import database_now
from app.errors import Conflict, InvalidInput, Problem, Unavailable
from app.outages import cause_of, is_of_database
from app.repository import get_owned
from app.runtime import Runtime
from app.storage import ObjectNotFound, PartMissing
from app.uploads import repository
from app.uploads.schemas import UploadResource
from app.uploads.showing import arrived_parts, is_assembled, show_upload
from app.uploads.sizes import part_sizes
from app.uploads.tables import UploadRow

log = structlog.get_logger()

ANSWER_AFTER = 20.0
"""Seconds after which a request is answered though the work goes on: less than clients and proxies wait."""
LEASE = timedelta(minutes=2)
"""How long the word of a process that completes an upload is taken for it, should it die."""
BEAT_EVERY = 15.0
LOOK_EVERY = 0.2
_TRIES = 5
"""How often in a row the store may break off without a further byte."""
_AT_ONCE = threading.BoundedSemaphore(4)
"""Uploads that this process reads through at the same time."""


def complete_upload(runtime: Runtime, caller: Caller, upload_id: str) -> UploadResource:
    """Put the parts together and check size and digest. Completing twice is no error, nor is it side by side.

    The bytes are read once, as a stream, with no transaction open, in a thread that outlives the request. What is answered
    after `ANSWER_AFTER` seconds is `completing`: whoever asks again joins what is under way, or takes it up where its process
    died. A wrong digest leaves the upload open with all its parts missing, so it can be sent again; nothing else ever sees the
    wrong bytes.

    Raises:
        Conflict: parts are missing.
        InvalidInput: the digest is not what was announced.
        Unavailable: store or database failed; asking again takes the completion up where it can.
    """
    deadline = time.monotonic() + ANSWER_AFTER
    while True:
        upload, ours = _claim(runtime, caller, upload_id)
        if ours:
            work = _Completion(runtime, caller, upload)
            work.start()
            work.join(max(0.0, deadline - time.monotonic()))
            if work.error is not None:
                raise work.error
        elif upload.status == "open" and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
            continue
        with runtime.read() as session:
            upload = get_owned(session, UploadRow, caller.tenant_id, upload_id)
        return show_upload(runtime, upload)


def _claim(runtime: Runtime, caller: Caller, upload_id: str) -> tuple[UploadRow, bool]:
    """The upload, and whether it is for the caller to complete it: it is open and nobody else is at it."""
    with runtime.read() as session:
        upload = get_owned(session, UploadRow, caller.tenant_id, upload_id)
        if _is_taken(session, upload):
            return upload, False
    with runtime.write.begin() as session:
        upload = get_owned(session, UploadRow, caller.tenant_id, upload_id, lock=True)
        if _is_taken(session, upload):
            return upload, False
        upload.completing_until = database_now(session) + LEASE
    return upload, True


def _is_taken(session: Session, upload: UploadRow) -> bool:
    return upload.status != "open" or (upload.completing_until is not None and upload.completing_until > database_now(session))


class _Completion(threading.Thread):
    """`error`: what whoever waited for it is to be told. A daemon: should the process end, the lease runs out and another goes on."""

    def __init__(self, runtime: Runtime, caller: Caller, upload: UploadRow) -> None:
        # The log context goes with the work: the audit log says which request completed the upload.
        super().__init__(target=copy_context().run, args=(self._work,), name=f"complete-{upload.id}", daemon=True)
        self.error: Exception | None = None
        self._runtime = runtime
        self._caller = caller
        self._upload = upload
        self._last_beat = time.monotonic()

    def _work(self) -> None:
        try:
            while not _AT_ONCE.acquire(timeout=BEAT_EVERY):
                self._beat()
            try:
                self._complete()
            finally:
                _AT_ONCE.release()
        except Exception as error:
            if isinstance(error, Problem):
                self.error = error
            else:
                failed = "database" if is_of_database(error) else "object store"
                self.error = Unavailable(f"The {failed} failed while the upload was being completed. Complete it again.")
                log.error("upload.not_completed", upload_id=self._upload.id, exc_info=error)
            self._let_go()

    def _complete(self) -> None:
        runtime, upload = self._runtime, self._upload
        _assemble(runtime, upload)
        digest, size = self._digest()
        if size != upload.bytes or digest != (upload.sha256 or digest):
            failure = (
                f"the parts make {size} bytes with sha256 {digest}; announced were {upload.bytes} bytes with sha256 {upload.sha256}. "
                "The upload is open again: send every part anew, or delete it."
            )
            _start_again(runtime, upload, failure)
            raise InvalidInput.at("/sha256" if size == upload.bytes else "/bytes", failure)
        needed = True
        with runtime.write.begin() as session:
            fresh = repository.lock_upload(session, upload.id)
            if fresh is None:  # deleted meanwhile
                needed = False
            elif fresh.status == "open":
                needed = _register(session, fresh, digest)
                record_audit(session, fresh.tenant_id, self._caller.key_id, "upload.completed", fresh.id)
            if not needed:
                discard(session, tenant_id=upload.tenant_id, key=upload.key, sha256=digest, bytes=size)
        if not needed:
            sweep(runtime.write, runtime.store)

    def _digest(self) -> tuple[str, int]:
        digest, size, tries = hashlib.sha256(), 0, 0
        while True:
            try:
                for chunk in self._runtime.store.open_range(self._upload.key, size):
                    digest.update(chunk)
                    size += len(chunk)
                    tries = 0
                    if time.monotonic() - self._last_beat > BEAT_EVERY:
                        self._beat()
                return digest.hexdigest(), size
            except ObjectNotFound as error:
                raise Conflict("The upload was deleted while it was being completed.") from error
            except Exception:  # whatever the store raises: what was read need not be read again
                tries += 1
                if tries == _TRIES:
                    raise
                time.sleep(LOOK_EVERY)

    def _let_go(self) -> None:
        try:
            with self._runtime.write.begin() as session:
                repository.lease_completion(session, self._upload.id, None)
        except SQLAlchemyError as error:
            log.warning("upload.lease_runs_out", upload_id=self._upload.id, error=cause_of(error))

    def _beat(self) -> None:
        self._last_beat = time.monotonic()
        with self._runtime.write.begin() as session:
            repository.lease_completion(session, self._upload.id, database_now(session) + LEASE)


def _assemble(runtime: Runtime, upload: UploadRow) -> None:
    """Make the object, or find that an earlier attempt, whose process died, already has."""
    if upload.bytes == 0:
        runtime.store.put_bytes(upload.key, b"")  # no store makes an object of no parts
        return
    parts = arrived_parts(runtime, upload)
    missing = sorted(set(range(1, len(part_sizes(upload.bytes, upload.part_size)) + 1)) - {part.number for part in parts})
    if not missing:
        try:
            runtime.store.complete_multipart(upload.key, upload.multipart_id, parts)
        except (ObjectNotFound, PartMissing) as error:
            # An attempt whose answer was lost, and which was made again, finds no parts any more.
            if not is_assembled(runtime, upload):
                raise Conflict("A part was replaced, or the upload deleted, while it was being completed. GET it to see.") from error
        return
    if not parts and is_assembled(runtime, upload):
        return
    if not parts and upload.failure is not None:
        raise InvalidInput.at("/sha256", upload.failure)
    listed = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
    raise Conflict(f"{len(missing)} parts have not arrived whole: {listed}. GET the upload for their links.")


def _start_again(runtime: Runtime, upload: UploadRow, failure: str) -> None:
    with runtime.write.begin() as session:
        fresh = repository.lock_upload(session, upload.id)
        if fresh is not None and fresh.multipart_id == upload.multipart_id:
            # In this order: where the store fails in between, the next attempt finds the wrong bytes again and ends up here.
            fresh.multipart_id = runtime.store.start_multipart(fresh.key, digests=fresh.part_digests is not None)
            fresh.failure = failure
            runtime.store.delete(fresh.key)


def _register(session: Session, upload: UploadRow, digest: str) -> bool:
    """Mark the upload completed; returns whether its object is needed, and not one with the same bytes that the tenant had already."""
    known = blobs_repository.lock_needed(session, upload.tenant_id, [digest]).get(digest)
    if known is None:
        known = adopt(session, tenant_id=upload.tenant_id, owner_id=upload.id, key=upload.key, sha256=digest, bytes=upload.bytes)
    else:
        hold(session, [known], upload.id)
    upload.status, upload.sha256, upload.blob_id, upload.completed_at = "completed", digest, known.id, database_now(session)
    upload.part_digests = upload.completing_until = upload.failure = None
    return known.key == upload.key
