"""Folders of safetensors files: what lies in them, read from their headers, and how tensors come out and go in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpu_jobs.errors import InputError

INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
MAX_JSON_BYTES = 32 * 2**20

# safetensors' names of the number types that weights of a supported family come in.
FLOATS = {"F64", "F32", "F16", "BF16"}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies and what its header says of it."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint.

    Raises:
        InputError: the file is missing, too large or no JSON object.
    """
    if not path.is_file():
        raise InputError(f"the checkpoint has no {path.name}")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_JSON_BYTES // 2**20} MiB")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path.name} must hold a JSON object, not a {type(value).__name__}")
    return value


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint folder, or of one safetensors file, by name; only headers are read.

    With an index, exactly the files it names are read; without one, every `*.safetensors` file in the folder.

    Raises:
        InputError: there are no safetensors, a shard is missing, truncated or lying, or two files hold one name.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in _shards(folder):
        for name, tensor in _header(file).items():
            if name in tensors:
                raise InputError(f"tensor {name} is in both {tensors[name].file.name} and {file.name}")
            tensors[name] = tensor
    if (folder / INDEX).is_file():
        absent = [name for name in _weight_map(folder) if name not in tensors]
        if absent:
            raise InputError(f"{INDEX} names tensors that no shard holds: {listed(absent)}")
    return tensors


def read_tensors(stored: Mapping[str, StoredTensor], *, device: torch.device | str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The contents of `stored` under its keys, each cast to `dtype` on `device`.

    Raises:
        InputError: a tensor holds no floating-point numbers, or holds some that are not finite.
    """
    tensors: dict[str, Tensor] = {}
    files: dict[Path, list[str]] = {}
    for name, tensor in stored.items():
        if tensor.dtype not in FLOATS:
            raise InputError(f"tensor {name} has the type {tensor.dtype}; expected one of {', '.join(sorted(FLOATS))}")
        files.setdefault(tensor.file, []).append(name)
    for file, names in files.items():
        with safe_open(file, framework="pt", device=str(device)) as opened:
            for name in names:
                tensors[name] = opened.get_tensor(stored[name].name).to(dtype)
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise InputError(f"tensors with NaN or infinite numbers: {listed(broken)}")
    return tensors


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `model.safetensors`, or shards of at most 5 GB with their index."""
    on_cpu = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    save_torch_state_dict(on_cpu, folder, max_shard_size="5GB", metadata={"format": "pt"})


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Names for an error message, the first few of them."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more


def _shards(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if (folder / INDEX).is_file():
        files = [folder / name for name in sorted(set(_weight_map(folder).values()))]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise InputError(f"shards named in {INDEX} are missing: {listed(missing)}")
        return files
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = [file.name for file in folder.glob("*") if file.suffix in PICKLES]
    if pickles:
        raise InputError(f"the weights are pickled ({listed(pickles)}); pickles can run code when opened, so only safetensors are read")
    raise InputError("the checkpoint holds no *.safetensors file")


def _weight_map(folder: Path) -> dict[str, str]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{INDEX} has no object `weight_map`")
    for file in weight_map.values():
        # A name, not a path: nothing outside the folder is ever opened.
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise InputError(f"{INDEX} names {file!r}; expected the name of a .safetensors file in the same folder")
    return weight_map


def _header(file: Path) -> dict[str, StoredTensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()
            slices = {name: opened.get_slice(name) for name in names}
            return {name: StoredTensor(file, name, part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file.name} is not a sound safetensors file: {error}") from None
