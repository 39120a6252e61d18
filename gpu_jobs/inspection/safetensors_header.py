"""The header of a safetensors file, held against the bytes that are there.

Layout: 8 bytes little-endian length, a JSON object of that length (`name → {dtype, shape, data_offsets}`), then the
tensors without gaps. The library would refuse all that is refused here; this says which tensor and what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_jobs.data.json_text import parse_json
from gpu_jobs.errors import InputError

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Bits of each element. Types below a byte (F4, F6) are of no use to any supported family."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What the header says of one tensor; `begin` and `end` count from the first byte after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Every tensor of the file by name, in the order of their bytes.

    Raises:
        InputError: the file is truncated, or its header lies about it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise InputError(f"the file has {size} bytes; a safetensors file has at least 8")
        length = int.from_bytes(prefix, "little")
        if length > MAX_HEADER_BYTES:
            raise InputError(f"the header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} are allowed")
        if 8 + length > size:
            raise InputError(f"the header claims {length:,} bytes but the file has only {size - 8:,} after its length: truncated or lying")
        content = file.read(length)
    tensors = sorted(_parse(content), key=lambda tensor: (tensor.begin, tensor.end))
    _check_layout(tensors, size - 8 - length)
    return {tensor.name: tensor for tensor in tensors}


def _parse(content: bytes) -> Iterator[TensorHeader]:
    try:
        header = parse_json(content, unique_keys=True)
    except ValueError as error:
        raise InputError(f"the header is not valid JSON: {error}") from None
    if not content.startswith(b"{") or not isinstance(header, dict):
        raise InputError("the header must be a JSON object")
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
                raise InputError("`__metadata__` must map texts to texts")
        else:
            yield _tensor(name, entry)


def _tensor(name: str, entry: Any) -> TensorHeader:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"tensor {name!r} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise InputError(f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not isinstance(shape, list) or not all(_is_size(extent) for extent in shape):
        raise InputError(f"tensor {name!r} has a shape that is no list of sizes: {shape!r:.100}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(offset) for offset in offsets):
        raise InputError(f"tensor {name!r} has data_offsets that are no pair of positions: {offsets!r:.100}")
    tensor = TensorHeader(name, dtype, tuple(shape), *offsets)
    expected = tensor.elements * BITS[dtype] // 8
    if tensor.end - tensor.begin != expected:
        raise InputError(f"tensor {name!r} spans {tensor.end - tensor.begin:,} bytes, but {dtype} {list(shape)} takes {expected:,}")
    return tensor


def _check_layout(tensors: list[TensorHeader], available: int) -> None:
    position = 0
    for tensor in tensors:
        if tensor.begin < position:
            raise InputError(f"tensor {tensor.name!r} overlaps the one before it")
        if tensor.begin > position:
            raise InputError(f"{tensor.begin - position:,} bytes before tensor {tensor.name!r} belong to no tensor")
        position = tensor.end
    if position > available:
        raise InputError(f"the tensors end at byte {position:,} but the file ends at {available:,}: truncated or lying")
    if position < available:
        raise InputError(f"{available - position:,} bytes after the last tensor belong to no tensor")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
