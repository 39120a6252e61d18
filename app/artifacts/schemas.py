"""Artifacts as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.artifacts.tables import ArtifactRow
from app.schemas import Resource


class ArtifactResource(Resource):
    id: str
    object: Literal["artifact"] = "artifact"
    job_id: str
    name: str = Field(examples=["report.json"])
    kind: str = Field(examples=["report"])
    bytes: int
    sha256: str
    media_type: str
    created_at: datetime

    @classmethod
    def of(cls, row: ArtifactRow) -> ArtifactResource:
        return cls.model_validate(row, from_attributes=True)
