"""Matrix products in bfloat16 where the processor is faster at them; everything else stays in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Bfloat16Product(torch.autograd.Function):
    """x · wᵀ, computed forwards and backwards in bfloat16, given and returned in float32."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.bfloat16(), weight.bfloat16()
        context.save_for_backward(x, weight)
        return (x @ weight.T).float()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = context.saved_tensors
        gradient = gradient.bfloat16()
        own = gradient.reshape(-1, gradient.shape[-1]).T @ x.reshape(-1, x.shape[-1])
        return (gradient @ weight).float(), own.float()


@contextmanager
def fast_linears(module: nn.Module) -> Iterator[None]:
    """While it lasts, the bias-free linear layers of the module multiply in bfloat16 when gradients are wanted.

    A processor without instructions for it is many times slower at bfloat16: there nothing changes.
    """
    if not multiplies_bfloat16():
        yield
        return
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear) and getattr(layer, "bias", None) is None]
    for layer in layers:
        layer.forward = _fast_forward(layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16 (x86, Arm). No, where torch is too old to tell."""
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def _fast_forward(layer: nn.Linear) -> Any:
    exact = nn.Linear.forward

    def forward(x: Tensor) -> Tensor:
        return _Bfloat16Product.apply(x, layer.weight) if torch.is_grad_enabled() else exact(layer, x)  # type: ignore[no-untyped-call]

    return forward
