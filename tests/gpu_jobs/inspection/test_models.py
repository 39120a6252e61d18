from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gpu_jobs.errors import InputError
from gpu_jobs.inspection.checkpoints import INDEX
from gpu_jobs.inspection.models import ModelInspection, inspect_model

GOLDEN = Path(__file__).parents[2] / "golden" / "llada_v" / "checkpoint"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound LLaDA-V checkpoint of two shards that a test may break."""
    shutil.copytree(GOLDEN, tmp_path / "model", copy_function=shutil.copyfile)
    for path in [tmp_path / "model", *(tmp_path / "model").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "model"


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_tensors(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def finding(folder: Path, code: str) -> str:
    """The detail of the finding that gets the model rejected."""
    inspection = inspect_model(folder)
    assert inspection.rejected
    details = [found.detail for found in inspection.findings if found.code == code and found.severity == "error"]
    assert details, inspection.findings
    return details[0]


class Payload:
    """Unpickled, it would create the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


class TestSoundModel:
    def test_what_it_is(self, model: Path) -> None:
        inspection = inspect_model(model)
        assert inspection.findings == []
        assert not inspection.rejected
        assert (inspection.family, inspection.parameters, inspection.tensors) == ("llada_v", 263_280, 72)
        assert inspection.dtypes == {"F32": 263_280}

    def test_digests_of_every_file(self, model: Path) -> None:
        inspection = inspect_model(model)
        files = sorted(path for path in model.rglob("*") if path.is_file())
        assert {file.path: file.sha256 for file in inspection.files} == {
            path.relative_to(model).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }
        assert inspection.bytes == sum(path.stat().st_size for path in files)

    def test_it_goes_through_json(self, model: Path) -> None:
        inspection = inspect_model(model)
        assert ModelInspection.model_validate_json(inspection.model_dump_json()) == inspection

    def test_one_file_without_an_index(self, model: Path) -> None:
        tensors = load_file(model / FIRST) | load_file(model / SECOND)
        for name in (FIRST, SECOND, INDEX):
            (model / name).unlink()
        save_file(tensors, model / "model.safetensors")
        assert not inspect_model(model).rejected

    def test_papers_that_come_with_models_are_welcome(self, model: Path) -> None:
        for name in ("README.md", "LICENSE", ".gitattributes", "merges.txt", "training_log.jsonl", "chat_template.jinja"):
            (model / name).write_text("# hello\n")
        assert inspect_model(model).findings == []

    def test_a_file_of_no_use_is_a_warning(self, model: Path) -> None:
        (model / "model.gguf").write_bytes(b"GGUF")
        inspection = inspect_model(model)
        assert not inspection.rejected
        assert [(found.severity, found.code, found.pointer) for found in inspection.findings] == [
            ("warning", "unexpected_file", "model.gguf")
        ]


class TestPickles:
    @pytest.mark.parametrize(
        "name", ["pytorch_model.bin", "a.pt", "a.PTH", "sub/a.ckpt", "a.pkl", "training_args.bin", "a.npy", "a.joblib"]
    )
    def test_by_name(self, name: str, model: Path) -> None:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"")
        assert "convert the weights to safetensors" in finding(model, "pickled_weights")

    @pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
    @pytest.mark.parametrize("name", ["notes.txt", "added_tokens.json", "weights", "extra.safetensors"])
    def test_under_another_name(self, name: str, protocol: int, model: Path, tmp_path: Path) -> None:
        (model / name).write_bytes(pickle.dumps(Payload(tmp_path / "ran"), protocol))
        assert "holds a pickle" in finding(model, "pickled_weights")
        assert not (tmp_path / "ran").exists()

    def test_zip_as_torch_saves_it(self, model: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(model / "README.md", "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Payload(tmp_path / "ran")))
        assert "archive, as torch.save writes them" in finding(model, "pickled_weights")

    def test_tar_as_old_torch_saved_it(self, model: Path) -> None:
        with tarfile.open(model / "README.md", "w") as archive:
            archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
        assert "archive" in finding(model, "pickled_weights")

    def test_compressed(self, model: Path, tmp_path: Path) -> None:
        (model / "vocab.txt").write_bytes(gzip.compress(pickle.dumps(Payload(tmp_path / "ran"))))
        assert "compressed" in finding(model, "pickled_weights")

    def test_in_place_of_the_weights(self, model: Path, tmp_path: Path) -> None:
        (model / FIRST).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
        assert "holds a pickle" in finding(model, "pickled_weights")
        assert not (tmp_path / "ran").exists()

    def test_words_are_no_pickle(self, model: Path) -> None:
        (model / "vocab.txt").write_text("cat\ndog\n(c)\n.\n")
        (model / "merges.txt").write_text("(dp0\nI1\n.")  # reads as a pickle, but of a plain dictionary
        assert inspect_model(model).findings == []


class TestCode:
    @pytest.mark.parametrize("name", ["modeling_llada.py", "sub/x.pyc", "a.so", "run.sh", "a.ipynb"])
    def test_code_files(self, name: str, model: Path) -> None:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("")
        assert "never run" in finding(model, "remote_code")

    @pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
    def test_auto_map(self, name: str, model: Path) -> None:
        edit_json(model / name, lambda config: config.update(auto_map={"AutoModel": "evil/repo--modeling.Evil"}))
        assert "`auto_map` asks for code from outside" in finding(model, "remote_code")

    @pytest.mark.parametrize("content", [b"\x7fELF\x02", b"MZ\x90", b"#!/bin/sh\n", b"\xcf\xfa\xed\xfe"])
    def test_executables_under_another_name(self, content: bytes, model: Path) -> None:
        (model / "notes.txt").write_bytes(content)
        assert "is an executable" in finding(model, "executable")

    def test_link_to_a_file(self, model: Path) -> None:
        (model / "notes.txt").symlink_to("/etc/passwd")
        assert "links" in finding(model, "link")
        assert "notes.txt" not in {file.path for file in inspect_model(model).files}

    def test_link_to_a_folder(self, model: Path) -> None:
        (model / "sub").symlink_to("/etc")
        assert "links" in finding(model, "link")

    def test_pipe(self, model: Path) -> None:
        os.mkfifo(model / "notes.txt")
        assert "pipes" in finding(model, "link")


class TestWeights:
    def test_truncated_shard(self, model: Path) -> None:
        os.truncate(model / SECOND, (model / SECOND).stat().st_size - 1)
        assert "truncated or lying" in finding(model, "broken_safetensors")

    def test_lying_header(self, model: Path) -> None:
        content = (model / FIRST).read_bytes()
        (model / FIRST).write_bytes((2**40).to_bytes(8, "little") + content[8:])
        assert "header claims" in finding(model, "broken_safetensors")

    def test_broken_tower_in_a_folder_within(self, model: Path) -> None:
        (model / "siglip-tiny" / "model.safetensors").write_bytes(b"hello")
        assert "at least 8" in finding(model, "broken_safetensors")

    def test_no_weights(self, model: Path) -> None:
        for name in (FIRST, SECOND, INDEX):
            (model / name).unlink()
        assert "no *.safetensors file" in finding(model, "no_weights")

    def test_names_that_are_no_valid_unicode_are_shown_in_print(self, model: Path) -> None:
        header = b'{"\\ud800\\u001b[2J": {"dtype": "F32", "shape": [1], "data_offsets": [0, 9]}}'
        (model / FIRST).write_bytes(len(header).to_bytes(8, "little") + header + bytes(9))
        assert finding(model, "broken_safetensors").isprintable()
        inspect_model(model).model_dump_json()

    def test_missing_shard(self, model: Path) -> None:
        (model / SECOND).unlink()
        assert finding(model, "missing_shard") == f"the index names {SECOND}, which was not uploaded"

    def test_tensor_that_only_the_index_has(self, model: Path) -> None:
        edit_json(model / INDEX, lambda index: index["weight_map"].update({"model.ghost": FIRST}))
        assert "does not hold: model.ghost" in finding(model, "missing_tensor")

    def test_tensor_that_only_the_shard_has(self, model: Path) -> None:
        edit_json(model / INDEX, lambda index: index["weight_map"].pop("model.norm.weight"))
        assert "the index does not place here: model.norm.weight" in finding(model, "unnamed_tensor")

    def test_tensor_in_two_shards(self, model: Path) -> None:
        edit_tensors(model / SECOND, lambda tensors: tensors.update({"lm_head.weight": np.zeros((512, 64), np.float32)}))
        assert "lm_head.weight is in more than one file" in finding(model, "duplicate_tensor")

    def test_weights_that_the_index_does_not_name(self, model: Path) -> None:
        save_file({"model.evil": np.zeros(1, np.float32)}, model / "more.safetensors")
        assert "leave it out" in finding(model, "unnamed_shard")

    @pytest.mark.parametrize(
        "place", ["../other.safetensors", "/etc/passwd", "sub/../../x.safetensors", "siglip-tiny/model.safetensors", "..", "a\\b"]
    )
    def test_index_that_leaves_the_folder(self, place: str, model: Path) -> None:
        edit_json(model / INDEX, lambda index: index["weight_map"].update({"model.norm.weight": place}))
        assert "only files beside it" in finding(model, "index_leaves_folder")

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
    def test_broken_index(self, content: str, model: Path) -> None:
        (model / INDEX).write_text(content)
        finding(model, "broken_index")


class TestConfiguration:
    def test_missing(self, model: Path) -> None:
        (model / "config.json").unlink()
        assert finding(model, "bad_config") == "config.json is missing"

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
    def test_no_json(self, content: bytes, model: Path) -> None:
        (model / "config.json").write_bytes(content)
        assert "config.json is not valid JSON" in finding(model, "bad_config")

    def test_no_object(self, model: Path) -> None:
        (model / "config.json").write_text("[]")
        assert "must hold a JSON object" in finding(model, "bad_config")

    @pytest.mark.parametrize("model_type", ["llama", "", None, ["llava_llada"]])
    def test_unknown_family(self, model_type: object, model: Path) -> None:
        edit_json(model / "config.json", lambda config: config.update(model_type=model_type))
        assert "supported are llada_v (model_type llava_llada)" in finding(model, "unknown_family")
        assert inspect_model(model).family is None

    @pytest.mark.parametrize("layers", [0, -1, 10**9, "3", None, True, 2.0])
    def test_impossible_layers(self, layers: object, model: Path) -> None:
        edit_json(model / "config.json", lambda config: config.update(num_hidden_layers=layers))
        finding(model, "bad_config")

    def test_what_the_networks_do_not_support(self, model: Path) -> None:
        edit_json(model / "config.json", lambda config: config.update(rope_scaling={"type": "linear", "factor": 2.0}))
        assert "rope_scaling" in finding(model, "does_not_fit")


class TestFamily:
    def test_lavida_is_told_apart_by_its_names(self, model: Path) -> None:
        for name in (SECOND, INDEX):
            (model / name).unlink()
        edit_tensors(model / FIRST, lambda tensors: tensors.update({"model.transformer.wte.weight": np.zeros((512, 64), np.float32)}))
        assert "LaViDa" in finding(model, "unsupported_family")
        assert "not supported yet" in finding(model, "unsupported_family")
        assert inspect_model(model).family is None

    def test_a_projector_alone(self, model: Path) -> None:
        tensors = load_file(model / SECOND)
        for name in (FIRST, SECOND, INDEX):
            (model / name).unlink()
        save_file({name: tensor for name, tensor in tensors.items() if "mm_projector" in name}, model / "model.safetensors")
        assert "lm_head.weight" in finding(model, "missing_tensor")

    def test_fewer_layers_than_configured(self, model: Path) -> None:
        edit_json(model / "config.json", lambda config: config.update(num_hidden_layers=4))
        assert "model.layers.3." in finding(model, "missing_tensor")

    def test_more_layers_than_configured(self, model: Path) -> None:
        edit_json(model / "config.json", lambda config: config.update(num_hidden_layers=2))
        assert "model.layers.2." in finding(model, "does_not_fit")

    def test_other_shapes_than_configured(self, model: Path) -> None:
        edit_json(model / "config.json", lambda config: config.update(intermediate_size=256))
        assert "model.layers.0.mlp.down_proj.weight is [64, 128]; the configuration asks for [64, 256]" in finding(model, "wrong_shape")

    def test_weights_that_are_no_floating_point_numbers(self, model: Path) -> None:
        edit_tensors(model / SECOND, lambda tensors: tensors.update({"model.norm.weight": np.zeros(64, np.int8)}))
        assert "model.norm.weight" in finding(model, "not_floating_point")


class TestTokenizer:
    def test_missing(self, model: Path) -> None:
        (model / "tokenizer.json").unlink()
        assert finding(model, "bad_tokenizer") == "tokenizer.json is missing"

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model": {"vocab": []}, "added_tokens": []}'])
    def test_malformed(self, content: str, model: Path) -> None:
        (model / "tokenizer.json").write_text(content)
        finding(model, "bad_tokenizer")

    def test_special_token_missing(self, model: Path) -> None:
        edit_json(model / "tokenizer.json", lambda tokenizer: tokenizer.update(added_tokens=tokenizer["added_tokens"][:-1]))
        assert finding(model, "bad_tokenizer") == "the tokenizer has no token <|eot_id|>"

    def test_more_tokens_than_embeddings(self, model: Path) -> None:
        edit_json(model / "tokenizer.json", lambda tokenizer: tokenizer["added_tokens"][-1].update(id=512))
        assert "ids up to 512, but config.json says vocab_size 512" in finding(model, "bad_tokenizer")

    def test_what_the_library_cannot_read(self, model: Path) -> None:
        edit_json(model / "tokenizer.json", lambda tokenizer: tokenizer.update(decoder={"type": "Evil"}))
        assert "tokenizer.json cannot be read" in finding(model, "bad_tokenizer")

    def test_broken_tokenizer_config(self, model: Path) -> None:
        (model / "tokenizer_config.json").write_text("{")
        assert "tokenizer_config.json is not valid JSON" in finding(model, "bad_config")


class TestAgreementWithTheFamily:
    """What is let through can be loaded, and what the signature asks for is what the networks have."""

    def test_what_is_let_through_loads(self, model: Path) -> None:
        from gpu_jobs.families.registry import load_family

        assert not inspect_model(model).rejected
        load_family(model)

    def test_each_missing_tensor_is_found_by_both(self, model: Path) -> None:
        from gpu_jobs.families.registry import load_family

        tensors = load_file(model / FIRST) | load_file(model / SECOND)
        for name in (FIRST, SECOND, INDEX):
            (model / name).unlink()
        for name in ("model.layers.1.mlp.up_proj.weight", "model.image_newline", "model.mm_projector.2.bias", "lm_head.weight"):
            save_file({other: tensor for other, tensor in tensors.items() if other != name}, model / "model.safetensors")
            assert name in finding(model, "missing_tensor")
            with pytest.raises(InputError, match=name):
                load_family(model)


def test_importing_the_inspection_imports_no_torch() -> None:
    code = "import sys, gpu_jobs.inspection.models, gpu_jobs.inspection.datasets, gpu_jobs.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
