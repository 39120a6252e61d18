"""How a LLaDA-V checkpoint is told from others by its configuration and the names and shapes of its tensors. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpu_jobs.inspection.findings import Finding, error, listed
from gpu_jobs.inspection.signatures.base import Signature

_DIMENSIONS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_MOST_LAYERS = 512

# LaViDa, LLaDA and MMaDA share this family's model_type or network under the names of OLMo.
_OLMO_PREFIX = "model.transformer."


class LladaVSignature(Signature):
    family = "llada_v"
    model_type = "llava_llada"
    special_tokens = ("<|startoftext|>", "<|endoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|mdm_mask|>")

    def examine(self, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Finding]:
        if any(name.startswith(_OLMO_PREFIX) for name in shapes):
            detail = "the tensors bear the names of LaViDa (model.transformer.…), which is not supported yet; LLaDA-V has model.layers.…"
            yield error("unsupported_family", detail)
            return
        wrong = [name for name in _DIMENSIONS if not _is_positive(config.get(name))]
        for name in wrong:
            yield error("bad_config", f"{name} must be a whole number above 0, not {config.get(name)!r:.100}", f"config.json#/{name}")
        if wrong:
            return
        if config["num_hidden_layers"] > _MOST_LAYERS:
            detail = f"{config['num_hidden_layers']:,} layers; at most {_MOST_LAYERS} are supported"
            yield error("bad_config", detail, "config.json#/num_hidden_layers")
            return
        if config["hidden_size"] % config["num_attention_heads"]:
            yield error("bad_config", "num_attention_heads must divide hidden_size", "config.json#/num_attention_heads")
            return
        yield from _compare(_required(config), shapes)

    def verify(self, folder: Path) -> None:
        from gpu_jobs.families.llada_v.checkpoint import open_checkpoint  # takes torch along

        open_checkpoint(folder)


def _required(config: Mapping[str, Any]) -> dict[str, tuple[int | None, ...]]:
    """Name and shape of every tensor of language model and projector; None where the configuration does not say."""
    vocabulary, hidden, inner = config["vocab_size"], config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    key_value_heads = config.get("num_key_value_heads")
    keys = hidden // heads * (key_value_heads if _is_positive(key_value_heads) else heads)
    required: dict[str, tuple[int | None, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
        "model.image_newline": (hidden,),
        "model.mm_projector.0.weight": (hidden, None),
        "model.mm_projector.0.bias": (hidden,),
        "model.mm_projector.2.weight": (hidden, hidden),
        "model.mm_projector.2.bias": (hidden,),
    }
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    for number in range(config["num_hidden_layers"]):
        required |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return required


def _compare(required: Mapping[str, tuple[int | None, ...]], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Finding]:
    if missing := required.keys() - shapes.keys():
        yield error("missing_tensor", f"a LLaDA-V of this configuration also has {listed(missing)}")
    for name in sorted(required.keys() & shapes.keys()):
        if not _fits(shapes[name], required[name]):
            wanted = ", ".join("any" if extent is None else str(extent) for extent in required[name])
            yield error("wrong_shape", f"{name} is {list(shapes[name])}; the configuration asks for [{wanted}]", f"#{name}")


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
