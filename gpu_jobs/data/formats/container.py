"""The files that rows are kept in. What a row says is another question (`conversations.py`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

MAX_ROW_BYTES = 256 * 2**20
"""Size at most of one row, images inside it included."""

HEAD_BYTES = 64 * 1024
"""How much of a file is looked at to recognise it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in its file.

    pointer: the file's path within the data set, `#`, and the JSON pointer to the row; no two rows share one.
    value: the row, or None where it could not be read; `problem` says why.
    name: what the container calls the row, if it does; taken as id where the row has none.
    pictures: encoded images that the container keeps beside the row, or None where it keeps none.
    """

    pointer: str
    value: dict[str, Any] | None
    problem: str = ""
    name: str | None = None
    pictures: tuple[bytes, ...] | None = None


Start = tuple[int, int]
"""Line and column, both from 1, of a row's first character in a file of text."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may hold rows, with its first `HEAD_BYTES`."""

    path: Path
    head: bytes


Edit = Callable[[Row], dict[str, Any] | None]
"""The row that is to be written in place of one that was read, or None to leave it out."""


class Container(ABC):
    """A way to keep rows in files. Stateless; one instance of each stands in the registry."""

    name: ClassVar[str]

    @abstractmethod
    def recognises(self, file: Candidate) -> bool:
        """Whether this is such a file of rows, judged by its content."""

    @abstractmethod
    def read(self, path: Path, shown_as: str) -> Iterator[Row]:
        """The rows of one file, in order; a row that cannot be read comes with its problem.

        Raises:
            InputError: the file as a whole cannot be read. It names the file as `shown_as`.
        """

    def starts(self, path: Path) -> Iterator[Start] | None:  # noqa: ARG002
        """Where each row begins, in the order of `read`; None where the file is no text. The file must be one that `read` can read."""
        return None

    @abstractmethod
    def write(self, path: Path, shown_as: str, out: Path, edit: Edit) -> None:
        """Write the rows of the file at `path` to a new file at `out`, each as `edit` wants it."""
