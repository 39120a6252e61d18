"""Uploads as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.schemas import Input, Resource, Sha256
from app.sources.paths import check_relative_path
from app.uploads.sizes import LARGEST_PART, MOST_PARTS

UploadStatus = Literal["open", "completing", "completed"]


class StatedPart(Input):
    """A part as its sender has it. Nothing else is taken in its place."""

    bytes: int = Field(gt=0, le=LARGEST_PART)
    sha256: Sha256


class UploadCreate(Input):
    filename: Annotated[str, Field(max_length=1024), AfterValidator(check_relative_path)]
    bytes: int = Field(ge=0, lt=2**50, description="Size of the whole file.")
    sha256: Sha256 | None = Field(None, description="Digest of the whole file. Without it a damaged upload goes unnoticed.")
    parts: list[StatedPart] | None = Field(
        None,
        max_length=MOST_PARTS,
        description="How the file is cut: equal parts of at least 5 MiB, and a last one that may be smaller. Each link then takes "
        "only a part of that size and digest. Without it the server cuts, and links are bound to sizes alone.",
    )


class PartResource(Resource):
    """A part and, while it has not arrived, where to PUT it. All parts but the last have `part_size` bytes."""

    number: int = Field(description="From 1, in the order of the file.")
    bytes: int
    received: bool
    url: str | None = Field(description="PUT the bytes of the part here; the link is its own permission. Null once the part has arrived.")
    headers: dict[str, str] = Field(description="Headers to send along; they are part of what the link is signed for.")


class UploadSummary(Resource):
    """An upload as lists show it: `GET` it by its id for its parts."""

    id: str
    object: Literal["upload"] = "upload"
    status: UploadStatus = Field(description="`completing` while its bytes are put together and verified.")
    filename: str
    bytes: int
    sha256: str | None
    part_size: int
    failure: str | None = Field(description="Why the last completion failed, where it did.")
    created_at: datetime
    expires_at: datetime = Field(description="When the upload is deleted, unless a model or data set has taken its bytes by then.")
    completed_at: datetime | None


class UploadResource(UploadSummary):
    parts: list[PartResource] = Field(description="Empty unless the upload is open.")
