"""The one place that says whether a tenant may have more.

Each `admit_…` locks the tenant first, so that two requests at once never both take the last place. The caller adds what was
admitted in the same transaction.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.audit.service import record_audit
from app.auth.repository import find_tenant_by_name
from app.errors import NotFound, QuotaExceeded
from app.jobs.repository import count_unfinished
from app.quotas import repository
from app.quotas.limits import Limits, limits_of
from app.quotas.schemas import Measure, UsageResource
from app.settings import Settings
from app.uploads.repository import count_open

MORE = "or ask the operator for more"


def admit_upload(session: Session, settings: Settings, tenant_id: str, bytes: int) -> None:
    """Whether the tenant may open one more upload of so many bytes.

    Raises:
        QuotaExceeded: it has as many uploads open, or as many bytes stored, as it may.
    """
    limits = _lock_limits(session, settings, tenant_id)
    _admit_one_more("open_uploads", count_open(session, tenant_id), limits.open_uploads, "uploads are open. Complete or delete some", 60)
    _admit_bytes(session, limits, tenant_id, bytes)


def admit_bytes(session: Session, settings: Settings, tenant_id: str, bytes: int) -> None:
    """Whether the tenant may store so many bytes more.

    Raises:
        QuotaExceeded: they do not fit.
    """
    _admit_bytes(session, _lock_limits(session, settings, tenant_id), tenant_id, bytes)


def admit_job(session: Session, settings: Settings, tenant_id: str) -> int | None:
    """Whether the tenant may start one more job. Returns how many seconds it may run; None: no limit.

    Raises:
        QuotaExceeded: it has as many unfinished jobs as it may, or no room left for what a job stores.
    """
    limits = _lock_limits(session, settings, tenant_id)
    used = count_unfinished(session, tenant_id)
    _admit_one_more("unfinished_jobs", used, limits.unfinished_jobs, "jobs are not finished. Wait for one to end, cancel one", 30)
    _admit_bytes(session, limits, tenant_id, 1)
    return limits.job_seconds


def show_usage(session: Session, settings: Settings, tenant_id: str) -> UsageResource:
    limits = limits_of(settings, repository.get_tenant(session, tenant_id))
    return UsageResource(
        stored_bytes=Measure(used=repository.used_bytes(session, tenant_id), limit=limits.stored_bytes),
        open_uploads=Measure(used=count_open(session, tenant_id), limit=limits.open_uploads),
        unfinished_jobs=Measure(used=count_unfinished(session, tenant_id), limit=limits.unfinished_jobs),
        job_seconds=limits.job_seconds,
    )


def set_limits(session: Session, settings: Settings, tenant_name: str, changes: dict[str, int | None], defaults: set[str]) -> Limits:
    """Set limits for one tenant alone. Returns all that hold for it now.

    changes: by their names; None is no limit. defaults: names of those that follow the operator's settings again.

    Raises:
        NotFound: there is no tenant of this name.
        pydantic.ValidationError: a limit is out of range.
    """
    named = find_tenant_by_name(session, tenant_name)
    if named is None:
        raise NotFound(f"There is no tenant {tenant_name!r}.")
    tenant = repository.get_tenant(session, named.id, lock=True)
    if changes or defaults:
        tenant.limits = {name: value for name, value in {**(tenant.limits or {}), **changes}.items() if name not in defaults}
        record_audit(session, tenant.id, None, "tenant.limits_changed", tenant.id)
    return limits_of(settings, tenant)


def _lock_limits(session: Session, settings: Settings, tenant_id: str) -> Limits:
    return limits_of(settings, repository.get_tenant(session, tenant_id, lock=True))


def _admit_one_more(name: str, used: int, limit: int, state: str, retry_after_seconds: int) -> None:
    """state: what `used` of `limit` things are, and what to do about it."""
    if used >= limit:
        detail = f"{used} of your {limit} {state}, {MORE}."
        raise QuotaExceeded(name, detail, limit=limit, used=used, requested=1, retry_after_seconds=retry_after_seconds)


def _admit_bytes(session: Session, limits: Limits, tenant_id: str, bytes: int) -> None:
    most = limits.stored_bytes
    if most is not None and (used := repository.used_bytes(session, tenant_id)) + bytes > most:
        raise QuotaExceeded(
            "stored_bytes",
            f"{used:,} of your {most:,} bytes are used, so {bytes:,} more do not fit. Delete models, data sets or jobs, {MORE}.",
            limit=most,
            used=used,
            requested=bytes,
            retry_after_seconds=3600,
        )
