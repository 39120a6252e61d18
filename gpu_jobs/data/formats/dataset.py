"""A data set: typed samples out of a folder in any known format, and purified samples back into the same format."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_jobs.data.formats.container import Container, Row
from gpu_jobs.data.formats.conversations import Conversation, RowProblem, dialect, place_images, read_conversation, write_texts
from gpu_jobs.data.formats.registry import find_rows
from gpu_jobs.data.images import ImageFolder, ImageProblem
from gpu_jobs.data.quoting import presentable
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.errors import InputError

MAX_ROWS = 5_000_000
"""Rows at most. A few bytes of Parquet can claim any number of them."""


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that cannot be used. `row` counts from 1 over all files in order; `pointer` says file and place."""

    row: int
    detail: str
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands. `file` is a path within the data set, `pointer` says file and JSON pointer.

    line, column: of the row's first character, from 1; None where the file is no text.
    """

    file: str
    pointer: str
    line: int | None
    column: int | None


class Dataset:
    """The samples of a folder and the rows that could not be used. The rows stay in their files and are read again to be written.

    format: the words of the rows and the container they are in, such as `llava-json` or `openai-parquet`.
    files: the files that hold the rows, in the order in which they were read.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder = folder.resolve()
        self._images = ImageFolder(self._folder, cache)
        self._origins: dict[str, tuple[int, str]] = {}  # of every sample: the number of its row, and its pointer
        self._container: Container
        self._container, self.files = find_rows(self._folder)
        self.format = ""
        self.samples: list[Sample] = []
        self.errors: list[RowError] = []
        self._read()

    def row_of(self, sample: Sample) -> tuple[int, str]:
        """The number of the row that a sample was read from, from 1, and its file and JSON pointer."""
        return self._origins[sample.id]

    def places_of(self, samples: Iterable[Sample]) -> dict[str, Place]:
        """Where the rows of these samples stand, by sample id. Reads the files once more."""
        wanted = {self.row_of(sample)[1]: sample.id for sample in samples}
        places: dict[str, Place] = {}
        for path in self.files:
            file = self._shown(path)
            rows = [pointer for pointer in wanted if pointer.rpartition("#")[0] == file]
            starts = list(self._container.starts(path) or ()) if rows else []
            for pointer in rows:
                line, column = starts[int(pointer.rpartition("/")[2])] if starts else (None, None)
                places[wanted[pointer]] = Place(file, pointer, line, column)
        return places

    def write(self, samples: Iterable[Sample], out: Path) -> None:
        """Write the rows of these samples, with the texts they have now, to a new folder in the format they came in.

        Rows keep their order and every field that is not a turn's text; rows of other samples are left out. Images come along.

        Raises:
            ValueError: a sample is not of this data set, or differs from its row in more than its texts.
        """
        wanted: dict[str, Sample] = {}
        for sample in samples:
            if sample.id not in self._origins:
                raise ValueError(f"sample {sample.id} is not of this data set")
            wanted[self.row_of(sample)[1]] = sample

        for path in self.files:

            def edit(row: Row, base: Path = path.parent) -> dict[str, Any] | None:
                sample = wanted.get(row.pointer)
                return None if sample is None else self._edit(row, base, sample)

            target = out / path.relative_to(self._folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._container.write(path, self._shown(path), target, edit)
        for image in {image for sample in wanted.values() for image in sample.images}:
            self._copy(image, out)

    def _read(self) -> None:
        number = 0
        for path in self.files:
            for row in self._container.read(path, self._shown(path)):
                number += 1
                if number > MAX_ROWS:
                    raise InputError(f"the data set has more than {MAX_ROWS:,} rows")
                try:
                    self._add(row, path.parent, number)
                except RowProblem as problem:
                    self.errors.append(RowError(number, presentable(problem.detail), presentable(row.pointer + problem.pointer)))
        if number == 0:
            raise InputError(f"{self._shown(self.files[0])} holds no rows")
        self.format = self.format or self._container.name

    def _add(self, row: Row, base: Path, number: int) -> None:
        if row.value is None:
            raise RowProblem(row.problem)
        self.format = self.format or f"{dialect(row.value)}-{self._container.name}"
        conversation = read_conversation(row.value)
        images, turns = self._resolve(row, conversation, base)
        name = conversation.id or row.name or f"row-{number:06d}"
        if name in self._origins:
            raise RowProblem(f"the id {name!r} is already that of row {self._origins[name][0]}; ids must be unique", "/id")
        self._origins[name] = number, row.pointer
        self.samples.append(Sample(name, images, tuple(turns)))

    def _resolve(self, row: Row, conversation: Conversation, base: Path) -> tuple[tuple[Path, ...], list[Turn]]:
        references = conversation.images
        if row.pictures:
            if references and len(references) != len(row.pictures):
                raise RowProblem(f"the row names {len(references)} images but {len(row.pictures)} stand beside it")
            references = list(row.pictures)
        try:
            images = tuple(self._images.locate(reference, base) for reference in references)
        except ImageProblem as problem:
            raise RowProblem(f"image: {problem}") from None
        return images, place_images(conversation.turns, len(images))

    def _edit(self, row: Row, base: Path, sample: Sample) -> dict[str, Any]:
        if row.value is None:
            raise ValueError(f"{row.pointer} changed since it was read")
        conversation = read_conversation(row.value)
        images, turns = self._resolve(row, conversation, base)
        if images != sample.images or [turn.role for turn in turns] != [turn.role for turn in sample.turns]:
            raise ValueError(f"sample {sample.id} differs from its row in more than its texts")
        changed = {i: turn.text for i, turn in enumerate(sample.turns) if turn.text != turns[i].text}
        return write_texts(row.value, conversation, changed)

    def _copy(self, image: Path, out: Path) -> None:
        place = self._images.inside(image)
        if place is not None:
            target = out / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image, target)

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def open_dataset(folder: Path, cache: Path) -> Dataset:
    """Read the data set in `folder`, whose format is recognised by its content.

    Nothing in it is trusted: what cannot be used becomes one of `errors`, and nothing is fetched or executed. Images
    are located, not decoded (`gpu_jobs.inspection` does that once). Images embedded in rows are extracted to `cache`,
    which may be shared between calls and must not lie among the files of the data set.

    Raises:
        InputError: the folder holds no data set, several, or a file of rows that cannot be read at all.
    """
    return Dataset(folder, cache)
