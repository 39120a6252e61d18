"""Models as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.models.tables import ModelRow
from app.schemas import FILES_SHOWN, FetchProgress, Input, Name, Resource, StoredFile
from app.sources.schemas import Source


class ModelCreate(Input):
    name: Name
    source: Source


class FindingResource(Resource):
    """A remark of the inspection. Those of severity `error` are why it was rejected; `retrying` says why it is not over yet."""

    severity: str
    code: str
    detail: str
    pointer: str | None = None

    @classmethod
    def all_of(cls, findings: list[Any], failure: str | None) -> list[FindingResource]:
        """What the inspection found or, while it goes on, what its last attempt failed by."""
        retrying = [] if failure is None else [cls(severity="warning", code="retrying", detail=f"{failure} It is tried again.")]
        return [*(cls.model_validate(finding) for finding in findings), *retrying]


class ModelResource(Resource):
    id: str
    object: Literal["model"] = "model"
    name: str
    status: Literal["inspecting", "ready", "rejected"]
    source: dict[str, Any] = Field(description="As it was given; once fetched from a hub, with the `commit` that `revision` stood for.")
    progress: FetchProgress | None = Field(description="While its files are being fetched.")
    family: str | None = Field(description="The model family, once inspected.", examples=["llada_v"])
    parameters: int | None
    tensors: int | None
    dtypes: dict[str, int] | None = Field(description="Parameters by data type.")
    bytes: int
    files: list[StoredFile] = Field(description="The first thousand, by path. What an archive holds is listed once inspected.")
    file_count: int
    findings: list[FindingResource]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: ModelRow, failure: str | None = None) -> ModelResource:
        """failure: of the last attempt at its inspection, where there will be another."""
        found = row.inspection
        # Inspected, an archive's files are those of the unpacked folder.
        files = (found.get("files") if any(file["archive"] for file in row.files) else None) or row.files
        return cls(
            id=row.id,
            name=row.name,
            status=row.status,
            source=row.source,
            progress=found.get("progress"),
            family=found.get("family"),
            parameters=found.get("parameters"),
            tensors=found.get("tensors"),
            dtypes=found.get("dtypes"),
            bytes=sum(file["bytes"] for file in row.files),
            files=[StoredFile.model_validate(file) for file in files[:FILES_SHOWN]],
            file_count=len(files),
            findings=FindingResource.all_of(row.findings, failure),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
