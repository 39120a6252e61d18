"""Uploads as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.schemas import Input, Resource, Sha256
from app.sources.paths import check_relative_path


class UploadCreate(Input):
    filename: Annotated[str, Field(max_length=1024), AfterValidator(check_relative_path)]
    bytes: int = Field(ge=0, lt=2**50, description="Size of the whole file.")
    sha256: Sha256 | None = Field(None, description="Digest of the whole file. Without it a damaged upload goes unnoticed.")


class PartResource(Resource):
    """A part and, while it has not arrived, where to PUT it. All parts but the last have `part_size` bytes."""

    number: int = Field(description="From 1, in the order of the file.")
    bytes: int
    received: bool
    url: str | None = Field(description="PUT the bytes of the part here; the link is its own permission. Null once the part has arrived.")
    headers: dict[str, str] = Field(description="Headers to send along.")


class UploadResource(Resource):
    id: str
    object: Literal["upload"] = "upload"
    status: Literal["open", "completed"]
    filename: str
    bytes: int
    sha256: str | None
    part_size: int
    parts: list[PartResource] = Field(description="Empty once the upload is completed.")
    created_at: datetime
    expires_at: datetime = Field(description="When the upload is deleted, unless a model or data set has taken its bytes by then.")
    completed_at: datetime | None
