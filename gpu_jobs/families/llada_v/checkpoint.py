"""LLaDA-V's published checkpoint layout: the only place that knows the names of its files and tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor

from gpu_jobs.errors import InputError
from gpu_jobs.families.llada_v.config import LladaVConfig, parse_config, tower_folder
from gpu_jobs.families.llada_v.network import LladaVNetwork
from gpu_jobs.families.weights import MAX_JSON_BYTES, StoredTensor, listed, read_json, read_tensors, stored_tensors, write_tensors

# Published prefix → prefix in `LladaVNetwork`. The first that fits counts.
PREFIXES = {
    "model.vision_tower.vision_tower.vision_model.": "vision_tower.",
    "model.mm_projector.": "projector.",
    "model.image_newline": "language_model.image_newline",
    "model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
}
TOWER = "model.vision_tower.vision_tower.vision_model."
# The same tower in a folder of its own, and what of it LLaDA-V has no use for.
BARE_TOWER = "vision_model."
UNUSED_TOWER = re.compile(r"vision_model\.head\.")

# Small files that a purified model takes over from the suspect as they are.
CARRIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "preprocessor_config.json",
)
# Fields of config.json that name code to be run; they are not passed on.
CODE_FIELDS = ("auto_map", "custom_pipelines")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's small files, checked, and where its tensors lie.

    raw: `config.json` as it was read. carried: other small files by name. stored: tensors by their name in the network.
    """

    config: LladaVConfig
    raw: Mapping[str, Any]
    carried: Mapping[str, bytes]
    stored: Mapping[str, StoredTensor]


def open_checkpoint(folder: Path, *, attention: str = "sdpa") -> Checkpoint:
    """Check a checkpoint folder from its configuration and the headers of its weights, without loading them.

    Raises:
        InputError: something is missing, malformed, or does not fit; the message names the tensors.
    """
    raw, config = read_configuration(folder, attention=attention)
    published = stored_tensors(folder)
    if all(_bare(name).startswith("mm_projector.") for name in published):
        raise InputError("this checkpoint holds a projector alone; it needs the model that the projector was trained for")
    if not any(name.startswith(TOWER) for name in published):
        published |= _tower_beside(folder / config.tower_folder, config)
    stored = {_network_name(name): tensor for name, tensor in published.items()}
    with init_empty_weights():
        expected = {name: tuple(tensor.shape) for name, tensor in LladaVNetwork(config).state_dict().items()}
    _check_tensors(stored, expected)
    return Checkpoint(config, raw, read_carried(folder), stored)


def read_configuration(folder: Path, *, attention: str) -> tuple[dict[str, Any], LladaVConfig]:
    """`config.json` as it is, and checked together with the tower's own configuration if there is one.

    Raises:
        InputError: a field is missing or has an unsupported value.
    """
    raw = read_json(folder / "config.json")
    tower_file = folder / tower_folder(raw) / "config.json"
    return raw, parse_config(raw, read_json(tower_file) if tower_file.is_file() else None, attention=attention)


def read_carried(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in CARRIED if (folder / name).is_file()]
    large = [file.name for file in files if file.stat().st_size > MAX_JSON_BYTES]
    if large:
        raise InputError(f"larger than {MAX_JSON_BYTES // 2**20} MiB: {listed(large)}")
    return {file.name: file.read_bytes() for file in files}


def load_network(checkpoint: Checkpoint, *, device: torch.device | str, dtype: torch.dtype) -> LladaVNetwork:
    """The networks with the checkpoint's weights, in evaluation mode."""
    # Parameters start without storage, so a model is never held twice; buffers (rotary frequencies) are real and stay float32.
    with init_empty_weights(include_buffers=False):
        network = LladaVNetwork(checkpoint.config)
    network.load_state_dict(read_tensors(checkpoint.stored, device=device, dtype=dtype), assign=True)
    return network.to(device).eval()


def load_projector(network: LladaVNetwork, path: Path) -> None:
    """Put the projector of an adapter checkpoint (a folder or one safetensors file) into a loaded network.

    Raises:
        InputError: it holds anything but this network's projector.
    """
    stored = {_network_name("model." + _bare(name)): tensor for name, tensor in stored_tensors(path).items()}
    expected = {f"projector.{name}": tensor for name, tensor in network.projector.state_dict().items()}
    _check_tensors(stored, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    any_weight = next(network.projector.parameters())
    tensors = read_tensors(stored, device=any_weight.device, dtype=any_weight.dtype)
    network.projector.load_state_dict({name.removeprefix("projector."): tensor for name, tensor in tensors.items()})


def save_checkpoint(folder: Path, network: LladaVNetwork, origin: Checkpoint) -> None:
    """Write a checkpoint that `open_checkpoint` and the official code read, with the small files of its `origin`.

    Raises:
        ValueError: the network holds tensors with no place in the layout, such as adapters that were not merged.
    """
    tensors: dict[str, Tensor] = network.state_dict()
    with init_empty_weights():
        expected = set(LladaVNetwork(origin.config).state_dict())
    if expected != set(tensors):
        raise ValueError(f"not LLaDA-V's tensors (merge adapters first): {listed(expected ^ set(tensors))}")
    folder.mkdir(parents=True, exist_ok=True)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    passed_on = {name: value for name, value in origin.raw.items() if name not in CODE_FIELDS}
    _write_json(folder / "config.json", passed_on | {"torch_dtype": dtype})
    tower_folder_path = folder / origin.config.tower_folder
    tower_folder_path.mkdir(exist_ok=True)
    _write_json(tower_folder_path / "config.json", origin.config.tower_file)
    for name, content in origin.carried.items():
        (folder / name).write_bytes(content)
    write_tensors(folder, {_published_name(name): tensor for name, tensor in tensors.items()})


def _tower_beside(folder: Path, config: LladaVConfig) -> dict[str, StoredTensor]:
    """The tower from a folder of its own, for checkpoints that were saved without it; its last layer and head are left out."""
    if not folder.is_dir():
        raise InputError(f"the checkpoint has no vision tower: neither tensors {TOWER}… nor a folder {folder.name}/")
    unused_layer = f"{BARE_TOWER}encoder.layers.{config.tower.num_hidden_layers}."
    return {
        TOWER + name.removeprefix(BARE_TOWER): tensor
        for name, tensor in stored_tensors(folder).items()
        if not UNUSED_TOWER.match(name) and not name.startswith(unused_layer)
    }


def _check_tensors(stored: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    problems = []
    if missing := set(expected) - set(stored):
        problems.append(f"missing: {_published(missing)}")
    if extra := set(stored) - set(expected):
        problems.append(f"unknown: {_published(extra)}")
    misshaped = [
        f"{_published_name(name)} is {list(stored[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in stored and stored[name].shape != shape
    ]
    if misshaped:
        problems.append(f"of another shape: {listed(misshaped)}")
    if problems:
        raise InputError("the checkpoint's tensors do not fit its configuration; " + "; ".join(problems))


def _published(names: Iterable[str]) -> str:
    return listed(_published_name(name) for name in names)


def _bare(name: str) -> str:
    """A projector's tensor without the prefixes that adapters are saved with or without."""
    return name.removeprefix("base_model.").removeprefix("model.")


def _network_name(published: str) -> str:
    for prefix, replacement in PREFIXES.items():
        if published.startswith(prefix):
            return replacement + published.removeprefix(prefix)
    return published


def _published_name(name: str) -> str:
    for prefix, replacement in PREFIXES.items():
        if name.startswith(replacement):
            return prefix + name.removeprefix(replacement)
    return name


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
