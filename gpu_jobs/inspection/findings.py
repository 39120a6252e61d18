"""What an inspection has to say about an upload."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from gpu_jobs.data.quoting import presentable

Severity = Literal["error", "warning"]
Quoting = Annotated[str, BeforeValidator(presentable)]


class Finding(BaseModel):
    """One remark. An error means that the upload is rejected.

    code: what kind of remark, for machines. detail: what is wrong and what would be right, for people.
    pointer: the file, and after `#` the JSON pointer or the tensor within it.
    """

    model_config = ConfigDict(frozen=True)

    severity: Severity
    code: str
    detail: Quoting
    pointer: Quoting | None = None


def error(code: str, detail: str, pointer: str | None = None) -> Finding:
    return Finding(severity="error", code=code, detail=detail, pointer=pointer)


def warning(code: str, detail: str, pointer: str | None = None) -> Finding:
    return Finding(severity="warning", code=code, detail=detail, pointer=pointer)


def rejects(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def listed(names: Iterable[str], limit: int = 5) -> str:
    """The first few names in order, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:limit]) + (f" and {len(ordered) - limit} more" if len(ordered) > limit else "")
