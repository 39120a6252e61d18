from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from gpu_jobs.errors import InputError
from gpu_jobs.inspection.safetensors_header import MAX_HEADER_BYTES, TensorHeader, read_header

SOUND: dict[str, dict[str, Any]] = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "none": {"dtype": "F16", "shape": [0, 7], "data_offsets": [32, 32]},
    "__metadata__": {"format": "pt"},
}


def encode(header: object, data: int = 32) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def read(content: bytes) -> dict[str, TensorHeader]:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        return read_header(Path(file.name))


def changed(name: str, **entry: Any) -> dict[str, Any]:
    return {**SOUND, name: {**SOUND[name], **entry}}


class TestReadHeader:
    def test_names_types_and_shapes(self) -> None:
        header = read(encode(SOUND))
        assert list(header) == ["a", "b", "none"]
        assert header["b"] == TensorHeader("b", "BF16", (4,), 24, 32)
        assert [tensor.elements for tensor in header.values()] == [6, 4, 0]

    def test_spaces_after_the_header_align_the_data(self) -> None:
        assert len(read(encode(json.dumps(SOUND).encode() + b"   "))) == 3

    def test_an_empty_file(self) -> None:
        with pytest.raises(InputError, match="0 bytes; a safetensors file has at least 8"):
            read(b"")

    def test_a_header_longer_than_the_file(self) -> None:
        with pytest.raises(InputError, match="claims 5,000 bytes but the file has only 2"):
            read((5000).to_bytes(8, "little") + b"{}")

    def test_an_oversized_header(self) -> None:
        with pytest.raises(InputError, match="at most 100,000,000"):
            read((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}")

    def test_truncated_data(self) -> None:
        with pytest.raises(InputError, match="end at byte 32 but the file ends at 31"):
            read(encode(SOUND, data=31))

    def test_bytes_after_the_end(self) -> None:
        with pytest.raises(InputError, match="8 bytes after the last tensor"):
            read(encode(SOUND, data=40))

    @pytest.mark.parametrize("text", [b"", b"[]", b"nul", b'{"a": ', b"\xff", b" {}", b"\xef\xbb\xbf{}", b'{"a":' + b"[" * 100_000])
    def test_a_header_that_is_no_json_object(self, text: bytes) -> None:
        with pytest.raises(InputError, match="header"):
            read(encode(text))

    def test_a_tensor_named_twice(self) -> None:
        text = json.dumps(SOUND).replace('"b"', '"a"').encode()
        with pytest.raises(InputError, match="a key is there twice"):
            read(encode(text))

    @pytest.mark.parametrize("dtype", ["F33", "f32", "", None, 4])
    def test_unknown_dtype(self, dtype: object) -> None:
        with pytest.raises(InputError, match="'a' has the unknown dtype"):
            read(encode(changed("a", dtype=dtype)))

    @pytest.mark.parametrize("shape", [[2, 4], [6, 2], [], [2, 3, 0], [2**40, 2**40]])
    def test_a_shape_that_does_not_take_the_bytes(self, shape: list[int]) -> None:
        with pytest.raises(InputError, match="'a' spans 24 bytes"):
            read(encode(changed("a", shape=shape)))

    @pytest.mark.parametrize("shape", [None, 6, [-2, -3], [2.0, 3], [True, 6], ["6"], [2**64]])
    def test_a_shape_that_is_none(self, shape: object) -> None:
        with pytest.raises(InputError, match="'a' has a shape that is no list of sizes"):
            read(encode(changed("a", shape=shape)))

    @pytest.mark.parametrize("offsets", [None, [0], [0, 24, 24], [-24, 0], ["0", "24"], [0.0, 24.0]])
    def test_malformed_offsets(self, offsets: object) -> None:
        with pytest.raises(InputError, match="'a' has data_offsets that are no pair"):
            read(encode(changed("a", data_offsets=offsets)))

    def test_overlapping_tensors(self) -> None:
        with pytest.raises(InputError, match="'b' overlaps"):
            read(encode(changed("b", data_offsets=[20, 28]), data=28))

    def test_a_hole_between_tensors(self) -> None:
        with pytest.raises(InputError, match=r"8 bytes before tensor '.*' belong to no tensor"):
            read(encode(changed("b", data_offsets=[32, 40]), data=40))

    def test_reversed_offsets(self) -> None:
        with pytest.raises(InputError, match="'a' spans -24 bytes"):
            read(encode(changed("a", data_offsets=[24, 0])))

    @pytest.mark.parametrize("entry", [None, [], {}, {"dtype": "F32"}, {**SOUND["a"], "extra": 1}])
    def test_an_entry_that_describes_no_tensor(self, entry: object) -> None:
        with pytest.raises(InputError, match="'a' must have exactly dtype, shape and data_offsets"):
            read(encode({**SOUND, "a": entry}))

    @pytest.mark.parametrize("metadata", [None, [], {"format": 1}])
    def test_malformed_metadata(self, metadata: object) -> None:
        with pytest.raises(InputError, match="__metadata__"):
            read(encode({**SOUND, "__metadata__": metadata}))


class TestAgainstTheLibrary:
    """What is let through here must open in safetensors' own reader, with the same names, types and shapes."""

    @given(data=st.data())
    @settings(max_examples=600, deadline=None)
    def test_mutated_bytes(self, data: st.DataObject) -> None:
        content = bytearray(encode(SOUND))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at] = data.draw(st.one_of(st.sampled_from(b'0123456789{}[],:" '), st.integers(0, 255)))
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=8))
        compare_with_library(bytes(content))

    @given(
        header=st.dictionaries(
            st.sampled_from(["a", "b", "c", "__metadata__"]),
            st.fixed_dictionaries(
                {
                    "dtype": st.sampled_from(["F32", "BF16", "U8", "I64", "F4", "F6_E2M3", "C64", "F8_E8M0", "X"]),
                    "shape": st.lists(st.integers(-1, 3), max_size=3),
                    "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2),
                }
            ),
            max_size=3,
        ),
        size=st.integers(0, 48),
    )
    @settings(max_examples=600, deadline=None)
    def test_random_headers(self, header: dict[str, Any], size: int) -> None:
        compare_with_library(encode(header, data=size))

    @given(shapes=st.lists(st.tuples(st.sampled_from(["F32", "BF16", "U8"]), st.lists(st.integers(0, 4), max_size=3)), max_size=5))
    def test_sound_files_are_let_through(self, shapes: list[tuple[str, list[int]]]) -> None:
        header, at = {}, 0
        for number, (dtype, shape) in enumerate(shapes):
            size = {"F32": 4, "BF16": 2, "U8": 1}[dtype]
            for extent in shape:
                size *= extent
            header[str(number)] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        assert len(read(encode(header, data=at))) == len(shapes)


def compare_with_library(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        try:
            ours = read_header(Path(file.name))
        except InputError:
            return
        try:
            with safe_open(file.name, framework="numpy") as opened:
                theirs = {name: (opened.get_slice(name).get_dtype(), tuple(opened.get_slice(name).get_shape())) for name in opened.keys()}  # noqa: SIM118
        except SafetensorError as error:
            pytest.fail(f"let through here, refused by the library: {error}")
        assert {name: (tensor.dtype, tensor.shape) for name, tensor in ours.items()} == theirs
