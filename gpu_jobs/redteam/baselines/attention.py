"""Where the answer looks: attention of the masked answer block to each vision token, layer by layer.

Fused attention never forms the weights, so the model is loaded with transformers' eager attention, whose layers return them;
hooks keep the few numbers that are asked for, and the maps of [length, length] are freed layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaAttention

from gpu_jobs.defense.subject import Subject
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Family, Prompt
from gpu_jobs.families.llada_v.family import LladaV
from gpu_jobs.families.registry import identify_family


def load_with_attention(folder: Path) -> Family:
    """The model, frozen, as `load_model` loads it, but with weights of attention that can be read.

    Raises:
        InputError: it is of a family whose attention this module cannot read.
    """
    family = identify_family(folder)
    if not issubclass(family, LladaV):
        raise InputError(f"the attention of the family {family.name} cannot be read")
    on_gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    loaded = family.load(folder, device=device, dtype=dtype, attention="eager")
    loaded.network.eval().requires_grad_(False)
    return loaded


@torch.no_grad()
def answer_attention(subject: Subject, prompts: Sequence[Prompt]) -> list[Tensor]:
    """Attention from the first answer block, all of it [MASK], to the vision tokens, as a mean over its positions and all heads.

    Returns: for each prompt [layers, vision tokens] float32 on the CPU.

    Raises:
        InputError: the model was not loaded by `load_with_attention`.
    """
    found: list[list[Tensor]] = [[] for _ in prompts]

    def keep(weights: Tensor) -> None:
        for prompt, own, rows in zip(prompts, weights, found, strict=True):  # own: [heads, query, key]
            start = len(prompt.embeddings)
            block = own[:, start : start + subject.block_length, prompt.vision]  # [heads, positions, vision tokens]
            rows.append(block.float().mean(dim=(0, 1)).cpu())

    masked = torch.full((len(prompts), subject.answer_length), subject.family.tokens.mask, dtype=torch.int64)
    with _watched(subject.family, keep):
        subject.family.answer_logits(prompts, masked, columns=slice(0, 1))
    return [torch.stack(rows) for rows in found]


@contextmanager
def _watched(family: Family, keep: Any) -> Iterator[None]:
    """While it lasts, every layer hands its weights of attention, [batch, heads, query, key], to `keep`, in order."""

    def look(module: LlamaAttention, given: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> None:  # noqa: ARG001
        if output[1] is None:
            raise InputError("the model does not return its attention: load it with load_with_attention")
        keep(output[1])

    layers = [module for module in family.parts["language_model"].modules() if isinstance(module, LlamaAttention)]
    handles = [layer.register_forward_hook(look) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
