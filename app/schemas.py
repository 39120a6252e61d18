"""What all request and response bodies have in common."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

T = TypeVar("T")

# A data set may have a hundred thousand files, and a page a hundred data sets.
FILES_SHOWN = 1000


class Input(BaseModel):
    """Base of request bodies: unknown names are errors, and so is text or a number that a database cannot keep."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        fault = unstorable(value)
        if fault is not None:
            raise ValueError(fault)
        return value


class Resource(BaseModel):
    """Base of response bodies."""

    model_config = ConfigDict(frozen=True)


class Page(Resource, Generic[T]):
    """One page of a list, newest first. Pass `last_id` as `after` to get the next."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    last_id: str | None


class StoredFile(Resource):
    """A file of a model or data set as it was handed in or fetched."""

    path: str
    bytes: int
    sha256: str
    etag: str | None = Field(None, description="Of a fetched file: the state of it that was fetched, as its source names it.")
    version_id: str | None = Field(None, description="Of a file from a bucket that keeps versions.")


class FetchProgress(Resource):
    """How far the files of an `s3` or `huggingface` source have arrived."""

    done: int
    total: int
    unit: Literal["bytes"] = "bytes"


def unstorable(value: Any) -> str | None:
    """Why JSON that Python accepts cannot be stored, or None: NUL, unpaired surrogates, NaN and infinities have no place in a database."""
    pending = [value]
    while pending:
        here = pending.pop()
        if isinstance(here, dict):
            pending += [*here.keys(), *here.values()]
        elif isinstance(here, list):
            pending += here
        elif isinstance(here, str):
            if "\0" in here:
                return "text must not contain the NUL character"
            if not here.isascii() and any("\ud800" <= character <= "\udfff" for character in here):
                return "text must not contain unpaired surrogates"
        elif isinstance(here, float) and not math.isfinite(here):
            return "numbers must be finite"
    return None


def _one_line(value: str) -> str:
    stripped = value.strip()
    if not stripped or any(ord(character) < 32 or ord(character) == 127 for character in stripped):
        raise ValueError("must be one line of text, not empty")
    return stripped


Name = Annotated[str, Field(max_length=200, description="One line for people to recognise it by."), AfterValidator(_one_line)]


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie in the years 1 to 9999, in UTC too") from error


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time with its zone, as requests name it."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Lower-case hexadecimal.")]
