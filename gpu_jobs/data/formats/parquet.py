"""Rows in Parquet files, images embedded or beside them: the layout of Hugging Face's data sets.

A conversation is a list of structs or a text of JSON; an image is a struct `{bytes, path}`, bytes, or a path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_jobs.data.formats.container import MAX_ROW_BYTES, Candidate, Container, Edit, Row
from gpu_jobs.data.formats.conversations import CONVERSATION_KEYS
from gpu_jobs.data.json_text import parse_json
from gpu_jobs.errors import InputError

_ROWS_AT_ONCE = 16  # images stand in the rows
_MAX_BATCH_BYTES = 2 * 2**30


class Parquet(Container):
    name = "parquet"

    def recognises(self, file: Candidate) -> bool:
        return file.head.startswith(b"PAR1")

    def read(self, path: Path, shown_as: str) -> Iterator[Row]:
        for index, value in enumerate(value for batch in _batches(path, shown_as) for value in batch.to_pylist()):
            yield _read_row(value, f"{shown_as}#/{index}")

    def write(self, path: Path, shown_as: str, out: Path, edit: Edit) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        index = 0
        with pq.ParquetWriter(out, pq.read_schema(path)) as writer:
            for batch in _batches(path, shown_as):
                originals = batch.to_pylist()
                edits = [edit(_read_row(value, f"{shown_as}#/{index + i}")) for i, value in enumerate(originals)]
                index += len(originals)
                texts = [_encoded_as(value, edited) for value, edited in zip(originals, edits, strict=True) if edited is not None]
                kept = batch.filter(pa.array([edited is not None for edited in edits]))
                if kept.num_rows:
                    writer.write_batch(_with_texts(kept, texts))


def _batches(path: Path, shown_as: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, shown_as)
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                if batch.nbytes > _MAX_BATCH_BYTES:
                    raise InputError(f"{shown_as}: {_ROWS_AT_ONCE} rows take {batch.nbytes:,} bytes; one row may have {MAX_ROW_BYTES:,}")
                yield batch
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{shown_as} is not a sound Parquet file: {error}") from error


def _check_columns(names: list[str], shown_as: str) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"{shown_as} has two columns of one name")
    if not set(CONVERSATION_KEYS) & set(names):
        raise InputError(f"{shown_as} has no column `conversations` or `messages`; it has {', '.join(names[:20])}")


def _with_texts(batch: Any, rows: list[dict[str, Any]]) -> Any:
    """The batch with its columns of texts rebuilt from `rows`; every other column keeps its very values."""
    import pyarrow as pa

    for name in (*CONVERSATION_KEYS, "system"):
        at = batch.schema.get_field_index(name)
        if at >= 0:
            field = batch.schema.field(at)
            batch = batch.set_column(at, field, pa.array([row[name] for row in rows], type=field.type))
    return batch


def _read_row(value: dict[str, Any], pointer: str) -> Row:
    row = dict(value)
    for key in CONVERSATION_KEYS:
        if isinstance(row.get(key), str):
            try:
                row[key] = parse_json(row[key])
            except ValueError as error:
                return Row(pointer, None, f"`{key}` is not valid JSON: {error}")
    return Row(pointer, row)


def _encoded_as(original: dict[str, Any], edited: dict[str, Any]) -> dict[str, Any]:
    """The edited row with its conversation as text where it was a text of JSON, unless nothing in it changed."""
    encoded = dict(edited)
    for key in CONVERSATION_KEYS:
        text = original.get(key)
        if isinstance(text, str):
            encoded[key] = text if parse_json(text) == edited[key] else json.dumps(edited[key], ensure_ascii=False)
    return encoded
