"""Rows as lines, one JSON object each. Read and written line by line, however long the file is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpu_jobs.data.formats.container import MAX_ROW_BYTES, Candidate, Container, Edit, Row, Start
from gpu_jobs.data.formats.conversations import CONVERSATION_KEYS
from gpu_jobs.data.json_text import dump_row, parse_json


class JsonLines(Container):
    name = "jsonl"

    def recognises(self, file: Candidate) -> bool:
        if file.path.suffix.lower() in (".jsonl", ".ndjson"):
            return True
        text = file.head.removeprefix(b"\xef\xbb\xbf").lstrip()
        first_line = text.split(b"\n", 1)[0]
        # Under another name it must prove itself: a config.json on one line looks the same from afar.
        return text.startswith(b"{") and any(f'"{key}"'.encode() in first_line for key in CONVERSATION_KEYS)

    def read(self, path: Path, shown_as: str) -> Iterator[Row]:
        for index, (_, line) in enumerate(_rows(path)):
            yield _read_line(line, f"{shown_as}#/{index}")

    def starts(self, path: Path) -> Iterator[Start]:
        return ((number, 1) for number, _ in _rows(path))

    def write(self, path: Path, shown_as: str, out: Path, edit: Edit) -> None:
        with out.open("w", encoding="utf-8") as file:
            for row in self.read(path, shown_as):
                edited = edit(row)
                if edited is not None:
                    file.write(dump_row(edited) + "\n")


def _rows(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """The number and content of every line that is not blank; None for one that is too long."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_ROW_BYTES)
                yield number, None
            elif line.strip(b"\xef\xbb\xbf \t\r\n"):
                yield number, line


def _read_line(line: bytes | None, pointer: str) -> Row:
    if line is None:
        return Row(pointer, None, f"the line has more than {MAX_ROW_BYTES:,} bytes")
    try:
        value = parse_json(line)
    except ValueError as error:
        return Row(pointer, None, f"the line is not valid JSON: {error}")
    if not isinstance(value, dict):
        return Row(pointer, None, f"a row must be a JSON object, not {type(value).__name__}")
    return Row(pointer, value)
