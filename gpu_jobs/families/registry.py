"""Which family a checkpoint folder belongs to."""

from __future__ import annotations

from pathlib import Path

import torch

from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Family
from gpu_jobs.families.llada_v.family import LladaV
from gpu_jobs.families.weights import read_json, stored_tensors

FAMILIES: dict[str, type[Family]] = {LladaV.name: LladaV}

# OLMo's names of LLaDA's tensors. LaViDa uses them under the same `model_type` as LLaDA-V.
OLMO_PREFIX = "model.transformer."


def identify_family(folder: Path) -> type[Family]:
    """The family of a checkpoint, by its configuration and the names of its tensors; no weights are read.

    Raises:
        InputError: it belongs to no supported family, or its files are malformed.
    """
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type != "llava_llada":
        raise InputError(
            f"config.json: model_type {model_type!r} is not supported; supported families: {', '.join(FAMILIES)} (llava_llada)"
        )
    if any(name.startswith(OLMO_PREFIX) for name in stored_tensors(folder)):
        raise InputError(f"the tensors {OLMO_PREFIX}… are those of LaViDa; LaViDa is not supported yet")
    return LladaV


def load_family(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Family:
    """Load a checkpoint of any supported family.

    Raises:
        InputError: it belongs to no supported family, or something is missing or malformed.
    """
    return identify_family(folder).load(folder, device=device, dtype=dtype)
