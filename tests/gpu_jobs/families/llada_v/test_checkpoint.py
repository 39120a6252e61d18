from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpu_jobs.errors import InputError
from gpu_jobs.families.llada_v.family import LladaV
from gpu_jobs.families.weights import INDEX
from tests.golden import CHECKPOINT, LLADA_V

TOWER = "model.vision_tower.vision_tower.vision_model."


def published_tensors() -> dict[str, Tensor]:
    return {name: tensor for shard in sorted(CHECKPOINT.glob("*.safetensors")) for name, tensor in load_file(shard).items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the reference checkpoint in one file."""
    copy = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, copy, ignore=shutil.ignore_patterns("model*"))
    save_file(published_tensors(), copy / "model.safetensors")
    shutil.copy(CHECKPOINT / "siglip-tiny/model.safetensors", copy / "siglip-tiny")
    return copy


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def change_config(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | fields), encoding="utf-8")


class TestSave:
    def test_a_round_trip_keeps_every_tensor_its_name_and_its_value(self, family: LladaV, tmp_path: Path) -> None:
        family.save(tmp_path / "a" / "b")
        saved = load_file(tmp_path / "a" / "b" / "model.safetensors")
        published = published_tensors()
        assert saved.keys() == published.keys()
        assert all(torch.equal(saved[name], published[name]) for name in published)

    def test_what_is_saved_loads_again_and_answers_alike(self, family: LladaV, tmp_path: Path) -> None:
        family.save(tmp_path)
        again = LladaV.load(tmp_path)
        states = family.network.state_dict(), again.network.state_dict()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert again.tokens == family.tokens

    def test_configuration_and_tokenizer_are_passed_on(self, family: LladaV, tmp_path: Path) -> None:
        family.save(tmp_path)
        for name in ("config.json", "generation_config.json"):
            assert json.loads((tmp_path / name).read_text()) == json.loads((CHECKPOINT / name).read_text())
        assert (tmp_path / "tokenizer.json").read_bytes() == (CHECKPOINT / "tokenizer.json").read_bytes()

    def test_the_type_of_the_weights_is_said(self, tmp_path: Path) -> None:
        LladaV.load(CHECKPOINT, dtype=torch.bfloat16).save(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
        assert load_file(tmp_path / "model.safetensors")["lm_head.weight"].dtype == torch.bfloat16

    def test_a_field_that_names_code_is_not_passed_on(self, folder: Path, tmp_path: Path) -> None:
        change_config(folder, auto_map={"AutoModel": "evil.py"})
        LladaV.load(folder).save(tmp_path / "out")
        assert "auto_map" not in json.loads((tmp_path / "out/config.json").read_text())

    def test_adapters_must_be_merged_first(self, tmp_path: Path) -> None:
        from peft import LoraConfig, get_peft_model

        family = LladaV.load(CHECKPOINT)
        adapted = get_peft_model(family.parts["language_model"], LoraConfig(r=2, target_modules=family.lora_targets))
        with pytest.raises(ValueError, match="merge adapters first"):
            family.save(tmp_path)
        adapted.merge_and_unload()
        family.save(tmp_path)
        assert load_file(tmp_path / "model.safetensors").keys() == published_tensors().keys()


class TestCreate:
    def test_random_weights_follow_the_seed(self, tmp_path: Path, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        weights = [LladaV.create(folder, seed=seed).network.state_dict() for seed in (1, 1, 2)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        assert not torch.equal(weights[0]["projector.0.weight"], weights[2]["projector.0.weight"])

    def test_what_was_created_can_be_saved_and_loaded(self, tmp_path: Path, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        LladaV.create(folder, seed=0).save(tmp_path / "out")
        LladaV.load(tmp_path / "out")


class TestProjector:
    def test_an_adapter_checkpoint_takes_the_projectors_place(self, folder: Path) -> None:
        change_tensors(folder, lambda tensors: tensors["model.mm_projector.0.weight"].zero_())
        for adapter in (LLADA_V / "adapter", LLADA_V / "adapter/mm_projector.safetensors"):
            family = LladaV.load(folder, projector=adapter)
            assert torch.equal(family.network.projector.state_dict()["0.weight"], published_tensors()["model.mm_projector.0.weight"])

    def test_an_adapter_of_another_width_is_refused(self, tmp_path: Path) -> None:
        tensors = load_file(LLADA_V / "adapter/mm_projector.safetensors")
        save_file(tensors | {"model.mm_projector.0.weight": torch.ones(64, 7)}, tmp_path / "mm_projector.safetensors")
        with pytest.raises(InputError, match=r"mm_projector\.0\.weight is \[64, 7\], expected \[64, 48\]"):
            LladaV.load(CHECKPOINT, projector=tmp_path)

    def test_a_whole_model_is_no_adapter(self) -> None:
        with pytest.raises(InputError, match=r"unknown: .*and \d+ more"):
            LladaV.load(CHECKPOINT, projector=CHECKPOINT)

    def test_an_adapter_alone_is_no_model(self, folder: Path) -> None:
        shutil.copy(LLADA_V / "adapter/mm_projector.safetensors", folder / "model.safetensors")
        with pytest.raises(InputError, match="projector alone"):
            LladaV.load(folder)


class TestTower:
    def test_a_checkpoint_saved_without_its_tower_takes_the_one_beside_it(self, folder: Path) -> None:
        bare = load_file(folder / "siglip-tiny/model.safetensors")
        change_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith(TOWER)])
        tower = LladaV.load(folder).network.vision_tower
        assert torch.equal(tower.embeddings.patch_embedding.weight, bare["vision_model.embeddings.patch_embedding.weight"])
        assert len(tower.encoder.layers) == 2

    def test_no_tower_anywhere(self, folder: Path) -> None:
        shutil.rmtree(folder / "siglip-tiny")
        change_config(folder, mm_vision_tower="google/siglip2-so400m-patch14-384", image_grid_pinpoints="(1x1),...,(6x6)")
        change_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith(TOWER)])
        with pytest.raises(InputError, match=r"no vision tower.*siglip2-so400m-patch14-384/"):
            LladaV.load(folder)

    def test_without_a_configuration_the_released_tower_is_expected(self, folder: Path) -> None:
        shutil.rmtree(folder / "siglip-tiny")
        change_config(folder, image_grid_pinpoints="(1x1),...,(6x6)")
        with pytest.raises(InputError, match=r"patch_embedding\.weight is \[48, 3, 14, 14\], expected \[1152, 3, 14, 14\]"):
            LladaV.load(folder)

    @pytest.mark.parametrize("name", ["../..", "a b", "..", "x/../.."])
    def test_a_tower_outside_the_folder_is_never_looked_at(self, folder: Path, name: str) -> None:
        change_config(folder, mm_vision_tower=name)
        with pytest.raises(InputError, match="mm_vision_tower"):
            LladaV.load(folder)


class TestTensorsThatDoNotFit:
    def test_missing(self, folder: Path) -> None:
        change_tensors(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
        with pytest.raises(InputError, match=r"missing: model\.layers\.1\.mlp\.up_proj\.weight"):
            LladaV.load(folder)

    def test_unknown(self, folder: Path) -> None:
        change_tensors(folder, lambda tensors: tensors.update(extra=torch.ones(1)))
        with pytest.raises(InputError, match="unknown: extra"):
            LladaV.load(folder)

    def test_of_another_shape(self, folder: Path) -> None:
        change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(3)}))
        with pytest.raises(InputError, match=r"model\.norm\.weight is \[3\], expected \[64\]"):
            LladaV.load(folder)

    def test_more_layers_than_the_configuration_says(self, folder: Path) -> None:
        change_config(folder, num_hidden_layers=2)
        with pytest.raises(InputError, match=r"unknown: model\.layers\.2\."):
            LladaV.load(folder)

    def test_a_missing_shard(self, folder: Path) -> None:
        (folder / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}))
        with pytest.raises(InputError, match="missing: model-00002-of-00002"):
            LladaV.load(folder)


class TestConfigurationThatIsNotBelieved:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"hidden_size": "large"}, "hidden_size"),
            ({"num_attention_heads": 5}, "num_attention_heads must divide"),
            ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
            ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling"),
            ({"mm_projector_type": "linear"}, "mm_projector_type"),
            ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type"),
            ({"image_aspect_ratio": "pad"}, "image_aspect_ratio"),
            ({"image_grid_pinpoints": "none"}, "image_grid_pinpoints"),
            ({"image_grid_pinpoints": [[57, 56]]}, "multiples of the tower's image size 56"),
            ({"image_grid_pinpoints": []}, "image_grid_pinpoints"),
            ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ],
    )
    def test_a_value_that_is_not_supported_is_named(self, folder: Path, fields: dict[str, Any], message: str) -> None:
        change_config(folder, **fields)
        with pytest.raises(InputError, match=message):
            LladaV.load(folder)

    def test_a_range_of_grids_counts_in_views(self, folder: Path) -> None:
        change_config(folder, image_grid_pinpoints="(1x1),...,(2x3)")
        config = LladaV.load(folder)._config
        assert config.grids == ((56, 56), (56, 112), (56, 168), (112, 56), (112, 112), (112, 168))

    def test_a_tokenizer_that_exceeds_the_vocabulary(self, folder: Path) -> None:
        change_config(folder, vocab_size=480)
        change_tensors(
            folder,
            lambda tensors: tensors.update({name: tensors[name][:480].clone() for name in ("lm_head.weight", "model.embed_tokens.weight")}),
        )
        with pytest.raises(InputError, match="token ids up to 496"):
            LladaV.load(folder)

    def test_no_tokenizer(self, folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        with pytest.raises(InputError, match=r"no tokenizer\.json"):
            LladaV.load(folder)

    @pytest.mark.parametrize("content", ["", "{}", '{"model": 7}'])
    def test_a_broken_tokenizer(self, folder: Path, content: str) -> None:
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=r"tokenizer\.json"):
            LladaV.load(folder)
