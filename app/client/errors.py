"""What can go wrong between a client and its server."""

from __future__ import annotations

import re
from typing import Any

import httpx


class BadAddress(ValueError):
    """What was named as a server is no address of one. The message says what would be."""


class ApiError(Exception):
    """The server said no. `problem` is its RFC 9457 document; `str()` is the text for people.

    `retry_after` is how many seconds the server asks to wait before the same is tried again; None where it does not say.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.request_id = response.headers.get("x-request-id")
        self.retry_after = _seconds(response.headers.get("retry-after", ""))
        self.problem = _problem(response)
        faults = [f"  {fault['pointer'] or '/'}: {fault['detail']}" for fault in self.problem.get("errors") or []]
        super().__init__("\n".join([f"{self.problem.get('title')}: {self.problem.get('detail')}", *(faults if len(faults) > 1 else [])]))


class Rejected(Exception):
    """A model or data set was handed in whole, and inspection found that it cannot be used. `resource["findings"]` says why."""

    def __init__(self, resource: dict[str, Any]) -> None:
        self.resource = resource
        faults = [finding for finding in resource["findings"] if finding["severity"] == "error"]
        findings = "\n".join(f"  {finding['pointer'] or '/'}: {finding['detail']}" for finding in faults)
        super().__init__(f"{resource['object']} {resource['name']!r} was rejected:\n{findings}")


class FileChanged(Exception):
    """A file was written to while it was being uploaded. Nothing of it is of use to the server."""


class CorruptDownload(Exception):
    """The bytes that arrived are not those that the server announced. The file was not kept."""


def _seconds(retry_after: str) -> int | None:
    return int(retry_after) if re.fullmatch(r"[0-9]{1,18}", retry_after) else None


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    return {"title": f"HTTP {response.status_code}", "detail": response.text[:500] or response.reason_phrase}
