"""What every place that files are fetched from offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gpu_jobs.inspection.findings import Finding, error

Advance = Callable[[int], None]
"""Told how many bytes more there are, or fewer where some have to be fetched again. May raise to stop."""


class SourceRefused(Exception):
    """The source cannot be used, and trying again would not help. `finding` tells its owner why, and what would be right."""

    def __init__(self, code: str, detail: str, pointer: str | None = None) -> None:
        super().__init__(detail)
        self.finding: Finding = error(code, detail, pointer)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file, pinned to the state in which it was listed.

    path: where it belongs in the folder. address: its name over there. etag: changes when its content does. sha256: where the
    source says so. commit: of the repository.
    """

    path: str
    address: str
    bytes: int
    etag: str
    sha256: str | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """All there is. `pinned` is added to the source that its owner sees, such as the commit that a branch stood for."""

    files: list[RemoteFile]
    pinned: dict[str, str] = field(default_factory=dict)


class Origin(Protocol):
    """May be used by several threads. Failures that may pass are other exceptions than `SourceRefused`."""

    def list_files(self) -> Listing:
        """Raises:
        SourceRefused: there is no such place, or we are not let in.
        """

    def fetch(self, file: RemoteFile, target: Path, advance: Advance) -> str | None:
        """Write the very file that was listed to `target`. Returns the id of its version, where the source keeps versions.

        Raises:
            SourceRefused: it is not there any more in the state in which it was listed.
        """

    def close(self) -> None:
        """Let go of its connections. It is not used any more."""
