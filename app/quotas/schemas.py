"""What a tenant has and may have, as it sees it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.schemas import Resource


class Measure(Resource):
    used: int
    limit: int | None = Field(description="Null: no limit.")


class UsageResource(Resource):
    object: Literal["usage"] = "usage"
    stored_bytes: Measure = Field(description="All that is stored, being uploaded, or being fetched.")
    open_uploads: Measure = Field(description="Uploads that are not complete.")
    unfinished_jobs: Measure = Field(description="Jobs that are queued, running or being cancelled.")
    job_seconds: int | None = Field(description="How long a job may run before it is failed. Null: no limit.")
