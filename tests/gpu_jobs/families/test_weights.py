from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpu_jobs.errors import InputError
from gpu_jobs.families.weights import INDEX, read_json, read_tensors, stored_tensors, write_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"a": TENSORS["a"]}, tmp_path / "one.safetensors")
    save_file({"b": TENSORS["b"]}, tmp_path / "two.safetensors")
    write_index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    return tmp_path


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


class TestStoredTensors:
    def test_shapes_and_types_come_from_the_headers(self, folder: Path) -> None:
        stored = stored_tensors(folder)
        assert {name: (tensor.file.name, tensor.dtype, tensor.shape) for name, tensor in stored.items()} == {
            "a": ("one.safetensors", "F32", (2, 3)),
            "b": ("two.safetensors", "F32", (4,)),
        }

    def test_a_missing_shard(self, folder: Path) -> None:
        (folder / "two.safetensors").unlink()
        with pytest.raises(InputError, match=r"missing: two\.safetensors"):
            stored_tensors(folder)

    def test_a_tensor_that_no_shard_holds(self, folder: Path) -> None:
        write_index(folder, {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"})
        with pytest.raises(InputError, match="no shard holds: c"):
            stored_tensors(folder)

    @pytest.mark.parametrize("file", ["../one.safetensors", "/etc/one.safetensors", "sub/one.safetensors", "one.bin", 7])
    def test_an_index_that_points_elsewhere(self, folder: Path, file: object) -> None:
        write_index(folder, {"a": file})
        with pytest.raises(InputError, match="in the same folder"):
            stored_tensors(folder)

    @pytest.mark.parametrize("weight_map", [None, [], "one.safetensors"])
    def test_an_index_without_a_map(self, folder: Path, weight_map: object) -> None:
        write_index(folder, weight_map)
        with pytest.raises(InputError, match="weight_map"):
            stored_tensors(folder)

    @pytest.mark.parametrize("kept", [0, 4, 40, 90])
    def test_a_truncated_file(self, folder: Path, kept: int) -> None:
        file = folder / "one.safetensors"
        file.write_bytes(file.read_bytes()[:kept])
        with pytest.raises(InputError, match=r"one\.safetensors is not a sound"):
            stored_tensors(folder)

    def test_a_header_that_lies_about_a_shape(self, folder: Path) -> None:
        file = folder / "one.safetensors"
        file.write_bytes(file.read_bytes().replace(b"[2,3]", b"[9,9]"))
        with pytest.raises(InputError, match=r"one\.safetensors is not a sound"):
            stored_tensors(folder)

    def test_one_name_in_two_files(self, folder: Path) -> None:
        (folder / INDEX).unlink()
        save_file({"a": TENSORS["a"]}, folder / "three.safetensors")
        with pytest.raises(InputError, match="tensor a is in both"):
            stored_tensors(folder)

    def test_pickled_weights_are_named_and_not_opened(self, tmp_path: Path) -> None:
        (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        with pytest.raises(InputError, match=r"pickled \(pytorch_model\.bin\)"):
            stored_tensors(tmp_path)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no \\*\\.safetensors"):
            stored_tensors(tmp_path)


class TestReadTensors:
    def test_values_come_back_in_the_type_asked_for(self, folder: Path) -> None:
        tensors = read_tensors(stored_tensors(folder), device="cpu", dtype=torch.bfloat16)
        assert torch.equal(tensors["a"], TENSORS["a"].bfloat16())

    def test_numbers_that_are_none(self, folder: Path) -> None:
        save_file({"a": torch.tensor([[1.0, torch.nan, 0.0], [0.0] * 3])}, folder / "one.safetensors")
        with pytest.raises(InputError, match="NaN or infinite numbers: a"):
            read_tensors(stored_tensors(folder), device="cpu", dtype=torch.float32)

    def test_whole_numbers_are_no_weights(self, folder: Path) -> None:
        save_file({"a": torch.ones(2, 3, dtype=torch.int8)}, folder / "one.safetensors")
        with pytest.raises(InputError, match="tensor a has the type I8"):
            read_tensors(stored_tensors(folder), device="cpu", dtype=torch.float32)


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    write_tensors(tmp_path, TENSORS)
    tensors = read_tensors(stored_tensors(tmp_path), device="cpu", dtype=torch.float32)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("content", ["{", "[]", "\ufeff{}x", "[" * 100_000, '"text"'])
def test_a_file_that_is_no_json_object(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json"):
        read_json(tmp_path / "config.json")
