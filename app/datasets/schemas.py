"""Data sets as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.datasets.tables import DatasetRow
from app.models.schemas import FindingResource
from app.schemas import FILES_SHOWN, FetchProgress, Input, Name, Resource, StoredFile
from app.sources.schemas import Source


class DatasetCreate(Input):
    name: Name
    source: Source


class DatasetCounts(Resource):
    """`answers` are the turns that a defence answers again; `errors` are rows that cannot be used."""

    samples: int
    images: int
    turns: int
    answers: int
    errors: int


class DatasetResource(Resource):
    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    status: Literal["inspecting", "ready", "rejected"]
    source: dict[str, Any] = Field(description="As it was given; once fetched from a hub, with the `commit` that `revision` stood for.")
    progress: FetchProgress | None = Field(description="While its files are being fetched.")
    format: str | None = Field(description="The format its rows are in, once inspected.", examples=["llava"])
    counts: DatasetCounts | None
    errors: list[dict[str, Any]] = Field(description="The first rows that cannot be used, and why.")
    thumbnails: int = Field(description="How many pictures `/thumbnails/{number}` shows, numbered from 0.")
    bytes: int
    files: list[StoredFile] = Field(description="The first thousand, by path, as handed in: an archive is one file.")
    file_count: int
    findings: list[FindingResource]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: DatasetRow, failure: str | None = None) -> DatasetResource:
        """failure: of the last attempt at its inspection, where there will be another."""
        found = row.inspection
        counts = None
        if "samples" in found:
            counts = DatasetCounts(
                samples=found["samples"],
                images=found["images"],
                turns=found["turns"],
                answers=found["answers"],
                errors=found["error_count"],
            )
        return cls(
            id=row.id,
            name=row.name,
            status=row.status,
            source=row.source,
            progress=found.get("progress"),
            format=found.get("format"),
            counts=counts,
            errors=found.get("errors", []),
            thumbnails=len(found.get("thumbnails", [])),
            bytes=sum(file["bytes"] for file in row.files),
            files=[StoredFile.model_validate(file) for file in row.files[:FILES_SHOWN]],
            file_count=len(row.files),
            findings=FindingResource.all_of(row.findings, failure),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
