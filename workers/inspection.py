"""Inspection steps: fetch what lies elsewhere, and look at it before anything else touches it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from app.jobs.inspections import Inspection
from app.jobs.leases import Lease
from gpu_jobs.errors import InputError
from gpu_jobs.inspection.findings import Finding
from workers.context import Context
from workers.fetching.fetch import FETCHED, fetch_source
from workers.fetching.origin import SourceRefused
from workers.heartbeat import Heartbeat
from workers.outputs import upload_folder
from workers.staging import stage_files
from workers.work import InspectionWork


def fetch_and_inspect(context: Context, lease: Lease, heartbeat: Heartbeat, work: InspectionWork, folder: Path) -> Inspection:
    """Examine a model or data set, once its files are here: those of an S3 or a hub are fetched first.

    Raises:
        gpu_jobs.reporting.Cancelled: the worker has to stop.
        app.jobs.leases.LeaseLost: the step is another worker's.
    """
    if work.source.get("type") not in FETCHED:
        return inspect(context, work, folder, lease.attempt)
    try:
        files, remarks = fetch_source(context, lease, heartbeat, work, folder / "fetched")
    except SourceRefused as refusal:
        return Inspection(accepted=False, findings=[refusal.finding.model_dump(mode="json")])
    found = inspect(context, replace(work, files=files), folder, lease.attempt)
    return replace(found, findings=[*found.findings, *(remark.model_dump(mode="json") for remark in remarks)])


def inspect(context: Context, work: InspectionWork, folder: Path, attempt: int) -> Inspection:
    """Stage the upload and examine it. Whatever is wrong with it becomes a finding, never an exception."""
    try:
        subject = stage_files(context.store, context.cache, work.files, folder / "subject")
    except InputError as refusal:
        finding = Finding(severity="error", code="bad_archive", detail=str(refusal))
        return Inspection(accepted=False, findings=[finding.model_dump(mode="json")])
    if work.kind == "inspect_model":
        return _inspect_model(subject)
    return _inspect_dataset(context, work, subject, folder / "thumbnails", attempt)


def _inspect_model(folder: Path) -> Inspection:
    from gpu_jobs.inspection.models import inspect_model

    found = inspect_model(folder)
    return _inspection(not found.rejected, found.model_dump(mode="json"))


def _inspect_dataset(context: Context, work: InspectionWork, folder: Path, thumbnails: Path, attempt: int) -> Inspection:
    from gpu_jobs.inspection.datasets import inspect_dataset

    found = inspect_dataset(folder, thumbnails)
    facts = found.model_dump(mode="json")
    facts["thumbnails"] = upload_folder(context.store, thumbnails, f"{work.prefix}/attempts/{attempt}")
    return _inspection(not found.rejected, facts)


def _inspection(accepted: bool, facts: dict[str, Any]) -> Inspection:
    return Inspection(accepted=accepted, findings=facts.pop("findings"), facts=facts)
