"""Rows in one JSON list: `[{…}, {…}]`, LLaVA's own layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_jobs.data.formats.container import Candidate, Container, Edit, Row, Start
from gpu_jobs.data.json_text import dump_row, parse_json
from gpu_jobs.errors import InputError

_NEXT_ROW = re.compile(r"[\s,]*(?=[^\s,\]])")


class JsonList(Container):
    name = "json"

    def recognises(self, file: Candidate) -> bool:
        text = file.head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if not text.startswith(b"["):
            return False
        # A list of something else, such as class names, may lie beside the rows.
        return text[1:].lstrip()[:1] in (b"{", b"]", b"")

    def read(self, path: Path, shown_as: str) -> Iterator[Row]:
        for index, value in enumerate(_load(path, shown_as)):
            pointer = f"{shown_as}#/{index}"
            if isinstance(value, dict):
                yield Row(pointer, value)
            else:
                yield Row(pointer, None, f"a row must be a JSON object, not {type(value).__name__}")

    def starts(self, path: Path) -> Iterator[Start]:
        text = path.read_bytes().decode("utf-8-sig")
        decoder = json.JSONDecoder()
        line, line_begin, end = 1, 0, text.index("[") + 1
        counted = 0
        while match := _NEXT_ROW.match(text, end):
            begin = match.end()
            if breaks := text.count("\n", counted, begin):
                line, line_begin = line + breaks, text.rindex("\n", counted, begin) + 1
            counted = begin
            yield line, begin - line_begin + 1
            _, end = decoder.raw_decode(text, begin)

    def write(self, path: Path, shown_as: str, out: Path, edit: Edit) -> None:
        edited = (edit(row) for row in self.read(path, shown_as))
        with out.open("w", encoding="utf-8") as file:
            file.write("[")
            for number, row in enumerate(row for row in edited if row is not None):
                file.write(",\n" if number else "\n")
                file.write(dump_row(row))
            file.write("\n]\n")


def _load(path: Path, shown_as: str) -> list[Any]:
    try:
        rows = parse_json(path.read_bytes())
    except json.JSONDecodeError as error:
        raise InputError(f"{shown_as} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError as error:
        raise InputError(f"{shown_as} is not valid JSON: {error}") from None
    if not isinstance(rows, list):
        raise InputError(f"{shown_as} must hold a JSON list of rows")
    return rows
