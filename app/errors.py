"""Every error a client can meet: one base class, rendered as RFC 9457 `application/problem+json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from app.outages import is_of_database, is_outage

MEDIA_TYPE = "application/problem+json"


class InputFault(BaseModel):
    """One wrong value. `pointer` is a JSON pointer into the body, or names the query parameter or header."""

    pointer: str = Field(examples=["/source/files/0/path"])
    detail: str


class QuotaFault(BaseModel):
    """Which limit of `/v1/usage` was met, and by how much."""

    name: str = Field(examples=["stored_bytes"])
    limit: int
    used: int
    requested: int


class ProblemDocument(BaseModel):
    """What the body of every error looks like."""

    type: str = Field(examples=["urn:lustral:problem:not-found"])
    title: str
    status: int
    detail: str
    errors: list[InputFault] | None = None
    quota: QuotaFault | None = None


class Problem(Exception):
    """Base of all errors that a client can meet. `detail` says what was wrong, where, and what would be right.

    The docstring of each kind is what docs/errors.md says of it.
    """

    status: ClassVar[int]
    title: ClassVar[str]
    slug: ClassVar[str]

    def __init__(self, detail: str, *, errors: Sequence[InputFault] = (), headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.quota: QuotaFault | None = None

    def response(self) -> JSONResponse:
        document = ProblemDocument(
            type=self.urn(), title=self.title, status=self.status, detail=self.detail, errors=list(self.errors) or None, quota=self.quota
        )
        return JSONResponse(document.model_dump(exclude_none=True), self.status, self.headers, media_type=MEDIA_TYPE)

    @classmethod
    def urn(cls) -> str:
        """The `type` of its documents."""
        return f"urn:lustral:problem:{cls.slug}"

    @classmethod
    def reference(cls) -> dict[str, Any]:
        """This error's entry in an endpoint's OpenAPI `responses`."""
        return {"$ref": f"#/components/responses/{cls.__name__}"}

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """What `reference` refers to: a problem document of this very type and status."""
        fixed = {"type": {"const": cls.urn()}, "title": {"const": cls.title}, "status": {"const": cls.status}}
        document = {"allOf": [{"$ref": "#/components/schemas/ProblemDocument"}, {"properties": fixed}]}
        return {"description": cls.title, "content": {MEDIA_TYPE: {"schema": document}}}


class MalformedRequest(Problem):
    """The connection broke in the middle of the body. Send the request again."""

    status, title, slug = 400, "Malformed request", "malformed-request"


class Unauthenticated(Problem):
    """The API key is missing, mistyped, unknown, revoked or expired. `detail` says which."""

    status, title, slug = 401, "Unauthenticated", "unauthenticated"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    """The key lacks the scope that the request needs, or the link of an upload's part has expired or was changed. Use a key with that
    scope; fetch the upload again for fresh links."""

    status, title, slug = 403, "Forbidden", "forbidden"


class NotFound(Problem):
    """Nothing of yours has this id. Unknown and foreign ids are answered alike, so that nobody learns what others own."""

    status, title, slug = 404, "Not found", "not-found"


class MethodNotAllowed(Problem):
    """The address does not answer to this method; the header `Allow` lists those it does."""

    status, title, slug = 405, "Method not allowed", "method-not-allowed"


class NotAcceptable(Problem):
    """None of the media types in `Accept` is offered; `detail` lists those that are."""

    status, title, slug = 406, "Not acceptable", "not-acceptable"


class Conflict(Problem):
    """The state of the resource does not allow it now: `detail` says what stands in the way and what would clear it. Also where the
    first request with the same `Idempotency-Key` is still running: ask again in a moment."""

    status, title, slug = 409, "Conflict", "conflict"


class PayloadTooLarge(Problem):
    """The body, the part or the announced file is larger than the server takes; `detail` has the limit."""

    status, title, slug = 413, "Payload too large", "payload-too-large"


class RangeNotSatisfiable(Problem):
    """The `Range` lies outside of the file."""

    status, title, slug = 416, "Range not satisfiable", "range-not-satisfiable"


class InvalidInput(Problem):
    """A value cannot be used. `errors` points at each place, as a JSON pointer into the body or by the name of the parameter or header."""

    status, title, slug = 422, "Invalid input", "invalid-input"

    @classmethod
    def at(cls, pointer: str, detail: str) -> InvalidInput:
        """One wrong value at `pointer`, such as `/source/uri`."""
        return cls(detail, errors=[InputFault(pointer=pointer, detail=detail)])


class TooManyRequests(Problem):
    """The tenant calls too often, or a quota of its is used up. Wait as long as `Retry-After` says."""

    status, title, slug = 429, "Too many requests", "too-many-requests"

    def __init__(self, detail: str, *, retry_after_seconds: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, retry_after_seconds))})


class QuotaExceeded(TooManyRequests):
    """A limit of the tenant's is used up. `detail` says what to do about it."""

    title, slug = "Quota exceeded", "quota-exceeded"

    def __init__(self, name: str, detail: str, *, limit: int, used: int, requested: int, retry_after_seconds: int) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.quota = QuotaFault(name=name, limit=limit, used=used, requested=requested)


class InternalError(Problem):
    """Something went wrong on our side. Quote the `X-Request-Id` of the answer when you report it."""

    status, title, slug = 500, "Internal error", "internal-error"


class Unavailable(Problem):
    """Something that the server needs cannot be reached or is busy. Try again in a moment; `Retry-After` says when."""

    status, title, slug = 503, "Service unavailable", "unavailable"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "2"})


def problem_responses(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of an endpoint that can raise these, on top of what every authenticated endpoint can."""
    return {kind.status: kind.reference() for kind in kinds}


def problem_kinds() -> list[type[Problem]]:
    """Every kind there is, by status."""
    return sorted(Problem.__subclasses__(), key=lambda kind: (kind.status, kind.slug))


def problem_of(error: Exception) -> Problem:
    """What a client is told of an exception that nobody expected: to come again, where that may help."""
    if not is_outage(error):
        return InternalError("Something went wrong on our side. Quote the X-Request-Id of this answer when you report it.")
    if is_of_database(error):
        return Unavailable("The database cannot be reached or is busy. Try again in a moment.")
    return Unavailable("The object store cannot be reached, or is busy or full. Try again in a moment.")


def register_error_handlers(app: FastAPI) -> None:
    app.exception_handler(Problem)(_problem)
    app.exception_handler(RequestValidationError)(_validation)
    app.exception_handler(HTTPException)(_http)


def _problem(_request: Request, error: Problem) -> JSONResponse:
    return error.response()


def _validation(_request: Request, error: RequestValidationError) -> JSONResponse:
    faults = [
        InputFault(pointer=_pointer(fault["loc"], error.body), detail=fault["msg"].removeprefix("Value error, "))
        for fault in error.errors()
    ]
    if len(faults) == 1:
        return InvalidInput(f"{faults[0].pointer or 'the body'}: {faults[0].detail}", errors=faults).response()
    return InvalidInput(f"{len(faults)} values are wrong; `errors` lists them", errors=faults).response()


def _http(_request: Request, error: HTTPException) -> JSONResponse:
    if error.status_code == 400:  # FastAPI's answer to a body that is not even text
        return InvalidInput("The body is not JSON in UTF-8.").response()
    if error.status_code == 404:
        return NotFound("There is nothing at this address.").response()
    if error.status_code == 405:
        return MethodNotAllowed(
            "This address does not answer to this method; `Allow` lists those it does.", headers=error.headers
        ).response()
    if error.status_code == 413:
        return PayloadTooLarge(error.detail).response()
    raise error  # nothing of ours raises another


def _pointer(location: Sequence[str | int], body: Any) -> str:
    """Pydantic's location as a JSON pointer: the names it adds for the branches of a union are left out."""
    place, *path = location
    if place != "body":
        return "/".join(str(part) for part in location)
    pointer, here = "", body
    for index, part in enumerate(path):
        inside = (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int) and part < len(here))
        absent = index == len(path) - 1 and isinstance(here, dict)
        if inside or absent:
            pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
            here = here[part] if inside else None
    return pointer
