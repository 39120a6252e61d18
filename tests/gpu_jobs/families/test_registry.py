from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpu_jobs.errors import InputError
from gpu_jobs.families.llada_v.family import LladaV
from gpu_jobs.families.registry import load_family
from tests.golden import CHECKPOINT


def test_a_llada_v_checkpoint_is_recognised() -> None:
    assert isinstance(load_family(CHECKPOINT), LladaV)


def test_lavida_is_told_apart_by_its_tensor_names(tmp_path: Path) -> None:
    shutil.copy(CHECKPOINT / "config.json", tmp_path)
    save_file({"model.transformer.wte.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="LaViDa is not supported yet"):
        load_family(tmp_path)


@pytest.mark.parametrize("config", [{"model_type": "dimple"}, {"model_type": ["llava_llada"]}, {}])
def test_an_unknown_family_is_refused(tmp_path: Path, config: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=r"model_type .* is not supported"):
        load_family(tmp_path)


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        load_family(tmp_path)
