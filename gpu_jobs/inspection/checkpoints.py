"""The tensors of a checkpoint folder, from the headers of its safetensors files and the index that names them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from gpu_jobs.data.json_text import parse_json
from gpu_jobs.errors import InputError
from gpu_jobs.inspection.findings import Finding, error, listed
from gpu_jobs.inspection.safetensors_header import TensorHeader, read_header

INDEX = "model.safetensors.index.json"
MAX_JSON_BYTES = 64 * 2**20


@dataclass(slots=True)
class Weights:
    """The tensors of the checkpoint itself, by name, and what is wrong with its files and those of folders within it."""

    tensors: dict[str, TensorHeader] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def parameters_by_dtype(self) -> dict[str, int]:
        count: Counter[str] = Counter()
        for tensor in self.tensors.values():
            count[tensor.dtype] += tensor.elements
        return dict(sorted(count.items()))


def read_weights(folder: Path) -> Weights:
    """Every header in the folder. With an index, exactly the files that it names make up the checkpoint."""
    weights = Weights()
    shards = {path.name: header for path in sorted(folder.glob("*.safetensors")) if (header := _read(path, folder, weights)) is not None}
    for path in sorted(folder.glob("*/**/*.safetensors")):
        _read(path, folder, weights)
    if (folder / INDEX).is_file():
        _check_index(folder, shards, weights)
    elif not any(folder.glob("*.safetensors")):
        weights.findings.append(error("no_weights", "no *.safetensors file was found; weights in any other form are not read"))
    for file, header in shards.items():
        for name, tensor in header.items():
            if name in weights.tensors:
                weights.findings.append(error("duplicate_tensor", f"tensor {name} is in more than one file", f"{file}#{name}"))
            weights.tensors[name] = tensor
    return weights


def read_object(path: Path) -> dict[str, object]:
    """The JSON object in a small file.

    Raises:
        InputError: the file is missing, too large, or holds anything else.
    """
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{path.name} is missing")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_JSON_BYTES // 2**20} MiB")
    try:
        value = parse_json(path.read_bytes())
    except ValueError as problem:
        raise InputError(f"{path.name} is not valid JSON: {problem}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path.name} must hold a JSON object, not a {type(value).__name__}")
    return value


def _read(path: Path, folder: Path, weights: Weights) -> dict[str, TensorHeader] | None:
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return read_header(path)
    except InputError as problem:
        weights.findings.append(error("broken_safetensors", str(problem), path.relative_to(folder).as_posix()))
        return None


def _check_index(folder: Path, shards: dict[str, dict[str, TensorHeader]], weights: Weights) -> None:
    findings = weights.findings
    try:
        weight_map = read_object(folder / INDEX).get("weight_map")
    except InputError as problem:
        findings.append(error("broken_index", str(problem), INDEX))
        return
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        findings.append(error("broken_index", "`weight_map` must map the names of tensors to file names", f"{INDEX}#/weight_map"))
        return
    named = set(weight_map.values())
    outside = {file for file in named if PurePath(file).name != file or "\\" in file or file in ("..", ".", "")}
    for file in sorted(outside):
        findings.append(
            error("index_leaves_folder", f"the index names {file!r:.200}; only files beside it may be named", f"{INDEX}#/weight_map")
        )
    missing = sorted(file for file in named - outside if not (folder / file).is_file())
    for file in missing:
        findings.append(error("missing_shard", f"the index names {file}, which was not uploaded", f"{INDEX}#/weight_map"))
    for file in sorted(file for file in shards if file not in named):
        findings.append(
            error("unnamed_shard", "the index does not name this file; leave it out, or no one knows which weights count", file)
        )
    for file, header in shards.items():
        expected = {name for name, place in weight_map.items() if place == file}
        if absent := expected - header.keys():
            findings.append(error("missing_tensor", f"the index places here, but the file does not hold: {listed(absent)}", file))
        if file in named and (extra := header.keys() - expected):
            findings.append(error("unnamed_tensor", f"the file holds, but the index does not place here: {listed(extra)}", file))
