"""The files of a source, from its listing to our own store. An attempt goes on where the one before it was killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.credentials.service import OpenCredential, open_credential
from app.credentials.vault import Sealed, Vault
from app.errors import QuotaExceeded
from app.jobs.leases import Lease, save_checkpoint
from app.sources.fetched import finish_fetch, hold_known, keep_files, note_progress, reserve_bytes
from app.sources.service import ManifestFile, is_archive
from gpu_jobs.inspection.findings import Finding
from gpu_jobs.reporting import Cancelled
from workers.cache import digest_of
from workers.context import Context
from workers.fetching.origin import Origin, RemoteFile, SourceRefused
from workers.fetching.selection import choose_files
from workers.guarded_http import Check
from workers.heartbeat import Heartbeat
from workers.outputs import in_parallel
from workers.work import Files, InspectionWork

log = structlog.get_logger()

FETCHED = ("s3", "huggingface")
"""Types of sources whose files a worker has to fetch."""

BATCH_FILES = 32
BATCH_BYTES = 256 * 1024 * 1024
PROGRESS_EVERY = 1.0
# Files are named in the checkpoint after each batch; where there are so many that writing it down takes time, less often.
PAUSE_FACTOR = 9


def fetch_source(context: Context, lease: Lease, heartbeat: Heartbeat, work: InspectionWork, folder: Path) -> tuple[Files, list[Finding]]:
    """Fetch the files of the subject's source into our store and name them in its row. Returns them, and remarks on those left out.

    Raises:
        SourceRefused: the source cannot be used.
        Cancelled, LeaseLost: the worker has to stop.
    """
    if work.files:  # an earlier attempt fetched them, and was stopped while it inspected them
        return work.files, _remarks(work.checkpoint or {})
    folder.mkdir(parents=True)
    check = stop_check(heartbeat, context.settings.max_fetch_seconds)
    with closing(open_origin(context, work, check)) as origin:
        plan = _Plan.load(work.checkpoint) if work.checkpoint else _list(context, lease, work, origin)
        _Fetching(context, lease, check, work, origin, plan, folder).run()
    with context.sessions.begin() as session:
        finish_fetch(session, lease, work.subject_id, plan.files, plan.pinned, {"remarks": plan.dump()["remarks"]})
    return cast(Files, plan.files), plan.remarks


def stop_check(heartbeat: Heartbeat, max_seconds: float) -> Check:
    """What is asked several times a second while files are fetched, also while nothing arrives."""
    until = time.monotonic() + max_seconds

    def check() -> None:
        if (stop := heartbeat.stop) is not None:
            raise Cancelled(f"the step must stop: {stop.name.lower().replace('_', ' ')}")
        if time.monotonic() > until:
            raise SourceRefused("too_slow", f"not all had arrived within {max_seconds:,.0f} s, which is what fetching may take here")

    return check


def open_origin(context: Context, work: InspectionWork, check: Check) -> Origin:
    """Where the source's files are, reached with its tenant's own credentials. check: may raise to stop at any moment.

    Raises:
        SourceRefused: the credentials cannot be decrypted.
    """
    source, settings = work.source, context.settings
    if source["type"] == "s3":
        from workers.fetching.s3 import S3Prefix

        bucket = source["uri"].removeprefix("s3://").partition("/")[0]
        return S3Prefix(source["uri"], _credential(context, work, bucket), reach=settings.source_reach, check=check)
    from workers.fetching.huggingface import HubRepository

    credential = _credential(context, work, source["repo_id"].partition("/")[0])
    token = credential.secrets["token"] if credential else None
    repo_type: Literal["model", "dataset"] = "model" if work.kind == "inspect_model" else "dataset"
    return HubRepository(settings.huggingface_endpoint, repo_type, source["repo_id"], source["revision"], token, check=check)


def _credential(context: Context, work: InspectionWork, scope: str) -> OpenCredential | None:
    with context.reads() as session:
        try:
            return open_credential(session, Vault.of(context.settings), work.tenant_id, work.source["type"], scope)
        except Sealed as error:
            raise SourceRefused("forbidden", str(error)) from error


@dataclass
class _Plan:
    """What the step's checkpoint keeps: the listing as the first attempt saw it, and the files that are stored and checked."""

    listing: list[RemoteFile]
    pinned: dict[str, str]
    remarks: list[Finding]
    files: list[ManifestFile] = field(default_factory=list)

    @classmethod
    def load(cls, saved: dict[str, Any]) -> _Plan:
        listing = [RemoteFile(**file) for file in saved["listing"]]
        return cls(listing, saved["pinned"], _remarks(saved), saved["files"])

    def dump(self) -> dict[str, Any]:
        remarks = [remark.model_dump(mode="json") for remark in self.remarks]
        return {"listing": [asdict(file) for file in self.listing], "pinned": self.pinned, "remarks": remarks, "files": self.files}

    @property
    def missing(self) -> list[RemoteFile]:
        here = {file["path"] for file in self.files}
        return [file for file in self.listing if file.path not in here]


def _remarks(saved: dict[str, Any]) -> list[Finding]:
    return [Finding(**remark) for remark in saved.get("remarks", [])]


def _list(context: Context, lease: Lease, work: InspectionWork, origin: Origin) -> _Plan:
    listing = origin.list_files()
    chosen, remarks = choose_files(work.kind, listing.files, context.settings.max_source_bytes)
    plan = _Plan(chosen, listing.pinned, remarks)
    with context.sessions.begin() as session:
        try:
            reserve_bytes(session, context.settings, lease, work.tenant_id, sum(file.bytes for file in chosen))
        except QuotaExceeded as refusal:
            raise SourceRefused("too_large", refusal.detail) from refusal
        save_checkpoint(session, lease, plan.dump())
    return plan


class _Fetching:
    """One attempt. Batches of files are fetched in parallel, then stored, then named in the checkpoint together."""

    def __init__(
        self, context: Context, lease: Lease, check: Check, work: InspectionWork, origin: Origin, plan: _Plan, folder: Path
    ) -> None:
        self._context = context
        self._lease = lease
        self._check = check
        self._work = work
        self._origin = origin
        self._plan = plan
        self._folder = folder
        self._numbers = {file.path: number for number, file in enumerate(plan.listing)}
        self._total = sum(file.bytes for file in plan.listing)
        self._done = sum(file["bytes"] for file in plan.files)
        self._unsaved: list[ManifestFile] = []
        self._save_due = self._progress_due = 0.0
        self._counting = threading.Lock()

    def run(self) -> None:
        self._advance(0)
        try:
            for batch in _batches(self._plan.missing):
                self._unsaved += self._fetch_batch(batch)
                if time.monotonic() >= self._save_due:
                    self._save()
        finally:
            # Also when the worker has to go: what has arrived need not be fetched again.
            self._save()

    def _fetch_batch(self, batch: Sequence[RemoteFile]) -> list[ManifestFile]:
        known = self._hold_known(file.sha256 for file in batch if file.sha256)
        missing = [file for file in batch if file.sha256 not in known]
        for file in batch:
            if file not in missing:
                self._advance(file.bytes)
        fetched = dict(zip(missing, in_parallel(self._fetch, missing), strict=True))
        known |= self._hold_known(entry["sha256"] for entry, _ in fetched.values())

        def store(file: RemoteFile) -> ManifestFile:
            if file not in fetched:
                sha256 = file.sha256 or ""
                return _entry(file, known[sha256], sha256, None)
            entry, path = fetched[file]
            if entry["sha256"] in known:
                entry["key"] = known[entry["sha256"]]
            else:
                self._context.store.put_file(entry["key"], path)
            self._context.cache.keep(path, entry["sha256"])
            path.unlink()
            return entry

        return in_parallel(store, batch)

    def _fetch(self, file: RemoteFile) -> tuple[ManifestFile, Path]:
        number = self._numbers[file.path]
        target = self._folder / str(number)
        version_id = self._origin.fetch(file, target, self._advance)
        key = f"{self._work.prefix}/attempts/{self._lease.attempt}/fetched/{number:06d}"
        return _entry(file, key, digest_of(target), version_id), target

    def _hold_known(self, digests: Iterator[str]) -> dict[str, str]:
        with self._context.sessions.begin() as session:
            return hold_known(session, self._lease, self._work.subject_id, digests)

    def _save(self) -> None:
        begun = time.monotonic()
        self._plan.files += self._unsaved
        with self._context.sessions.begin() as session:
            left = self._total - sum(file["bytes"] for file in self._plan.files)
            keep_files(session, self._lease, self._work.subject_id, self._unsaved, self._plan.dump(), bytes_left=left)
        self._unsaved = []
        ended = time.monotonic()
        self._save_due = ended + PAUSE_FACTOR * (ended - begun)

    def _advance(self, count: int) -> None:
        """Note that so many bytes more have arrived.

        Raises:
            Cancelled: the step must stop.
            LeaseLost: it is another worker's.
        """
        self._check()
        with self._counting:
            self._done += count
            now = time.monotonic()
            if now < self._progress_due:
                return
            self._progress_due = now + PROGRESS_EVERY
            try:
                with self._context.sessions.begin() as session:
                    note_progress(session, self._lease, self._work.subject_id, self._done, self._total)
            except SQLAlchemyError as error:
                # Nothing is fetched again because nobody could be told how far it is.
                log.warning("progress.not_written", error=str(error))


def _batches(files: Sequence[RemoteFile]) -> Iterator[list[RemoteFile]]:
    """A few files, or many bytes: as much as may be lost to a kill."""
    batch: list[RemoteFile] = []
    for file in files:
        if batch and (len(batch) == BATCH_FILES or sum(each.bytes for each in batch) + file.bytes > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _entry(file: RemoteFile, key: str, sha256: str, version_id: str | None) -> ManifestFile:
    entry = ManifestFile(path=file.path, key=key, sha256=sha256, bytes=file.bytes, archive=is_archive(file.path), etag=file.etag.strip('"'))
    return entry if version_id is None else {**entry, "version_id": version_id}
