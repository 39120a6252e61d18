"""Looking at an uploaded model: what it is, and every reason not to touch it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from tokenizers import Tokenizer

from gpu_jobs.errors import InputError
from gpu_jobs.inspection.checkpoints import Weights, read_object, read_weights
from gpu_jobs.inspection.files import FileDigest, digest_files, examine_files
from gpu_jobs.inspection.findings import Finding, error, listed, rejects
from gpu_jobs.inspection.signatures import SIGNATURES
from gpu_jobs.inspection.signatures.base import Signature

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_CODE_FIELDS = ("auto_map", "custom_pipelines")
_CONFIGURATIONS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json", "generation_config.json")


class ModelInspection(BaseModel):
    """What was found. `parameters` counts the checkpoint's own tensors; `dtypes` shares them out by safetensors' type names."""

    family: str | None = None
    parameters: int = 0
    tensors: int = 0
    dtypes: dict[str, int] = Field(default_factory=dict)
    bytes: int = 0
    files: list[FileDigest] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list)

    @property
    def rejected(self) -> bool:
        return rejects(self.findings)


def inspect_model(folder: Path) -> ModelInspection:
    """Inspect a model folder from its files' names, first bytes, headers and JSON. Nothing is unpickled, imported or run.

    Whatever is wrong becomes a finding; the family's own check comes last and only for a folder that is safe by then.
    """
    files = digest_files(folder)
    weights = read_weights(folder)
    findings = [*examine_files(folder), *_remote_code(folder), *weights.findings]
    config, signature = _identify(folder, findings)
    if signature is not None:
        shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
        if shapes:
            findings += signature.examine(config, shapes)
            findings += _examine_types(weights)
        findings += _examine_tokenizer(folder, signature, config)
        if not rejects(findings):
            findings += _verify(folder, signature)
    return ModelInspection(
        family=signature.family if signature is not None and not _is_of_another_family(findings) else None,
        parameters=weights.parameters,
        tensors=len(weights.tensors),
        dtypes=weights.parameters_by_dtype,
        bytes=sum(file.bytes for file in files),
        files=files,
        findings=findings,
    )


def _identify(folder: Path, findings: list[Finding]) -> tuple[dict[str, Any], Signature | None]:
    try:
        config = read_object(folder / "config.json")
    except InputError as problem:
        findings.append(error("bad_config", str(problem), "config.json"))
        return {}, None
    model_type = config.get("model_type")
    signature = SIGNATURES.get(model_type) if isinstance(model_type, str) else None
    if signature is None:
        supported = ", ".join(f"{signature.family} (model_type {name})" for name, signature in SIGNATURES.items())
        findings.append(
            error(
                "unknown_family", f"unknown family: model_type is {model_type!r:.100}; supported are {supported}", "config.json#/model_type"
            )
        )
    return config, signature


def _remote_code(folder: Path) -> Iterator[Finding]:
    for name in _CONFIGURATIONS:
        if not (folder / name).is_file():
            continue
        try:
            value = read_object(folder / name)
        except InputError as problem:
            if name != "config.json":  # said elsewhere
                yield error("bad_config", str(problem), name)
            continue
        for field in _CODE_FIELDS:
            if value.get(field):
                detail = f"`{field}` asks for code from outside to be run; remove it: supported families bring no code of their own"
                yield error("remote_code", detail, f"{name}#/{field}")


def _examine_types(weights: Weights) -> Iterator[Finding]:
    others = {name for name, tensor in weights.tensors.items() if tensor.dtype not in _FLOATS}
    if others:
        yield error(
            "not_floating_point", f"quantised weights are not supported; {', '.join(sorted(_FLOATS))} are, but not: {listed(others)}"
        )


def _examine_tokenizer(folder: Path, signature: Signature, config: dict[str, Any]) -> Iterator[Finding]:
    name = "tokenizer.json"
    try:
        tokenizer = read_object(folder / name)
    except InputError as problem:
        yield error("bad_tokenizer", str(problem), name)
        return
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not isinstance(added, list):
        yield error("bad_tokenizer", "`model.vocab` must be an object and `added_tokens` a list", name)
        return
    ids = vocabulary | {str(token.get("content")): token.get("id") for token in added if isinstance(token, dict)}
    if absent := set(signature.special_tokens) - ids.keys():
        yield error("bad_tokenizer", f"the tokenizer has no token {listed(absent)}", f"{name}#/added_tokens")
    if not all(isinstance(number, int) and number >= 0 for number in ids.values()):
        yield error("bad_tokenizer", "every token needs a whole number as id", name)
        return
    size = config.get("vocab_size")
    if isinstance(size, int) and ids and max(ids.values()) >= size:
        yield error("bad_tokenizer", f"the tokenizer has ids up to {max(ids.values())}, but config.json says vocab_size {size}", name)
        return
    try:
        Tokenizer.from_str(json.dumps(tokenizer))
    except Exception as problem:  # noqa: BLE001 (all that the library raises)
        yield error("bad_tokenizer", f"tokenizer.json cannot be read: {problem}", name)


def _verify(folder: Path, signature: Signature) -> Iterator[Finding]:
    try:
        signature.verify(folder)
    except InputError as problem:
        yield error("does_not_fit", str(problem))


def _is_of_another_family(findings: list[Finding]) -> bool:
    return any(finding.code == "unsupported_family" for finding in findings)
