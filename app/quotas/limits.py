"""How much a tenant may have at once."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from app.auth.tables import TenantRow
from app.settings import Settings


class Limits(BaseModel):
    """What holds for one tenant. Null is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stored_bytes: int | None = Field(ge=0, description="Bytes of all that is stored, being uploaded, or being fetched.")
    open_uploads: int = Field(ge=0, description="Uploads that are not complete.")
    unfinished_jobs: int = Field(ge=0, description="Jobs that are queued, running or being cancelled.")
    job_seconds: int | None = Field(ge=1, description="How long a job may run, from its first step on.")


def limits_of(settings: Settings, tenant: TenantRow) -> Limits:
    """The operator's defaults, with what was set for this tenant alone in their place."""
    defaults = {
        "stored_bytes": settings.max_stored_bytes,
        "open_uploads": settings.max_open_uploads,
        "unfinished_jobs": settings.max_running_jobs,
        "job_seconds": settings.max_job_seconds,
    }
    return Limits.model_validate({**defaults, **(tenant.limits or {})})
