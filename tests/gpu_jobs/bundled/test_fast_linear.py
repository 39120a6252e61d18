"""Products in bfloat16 where the processor has instructions for them, and nothing else where it has none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gpu_jobs.bundled import fast_linear
from gpu_jobs.bundled.fast_linear import fast_linears, multiplies_bfloat16


def gradients(layer: nn.Linear, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    layer.zero_grad()
    answer = layer(x)
    answer.square().sum().backward()
    assert layer.weight.grad is not None
    return answer.detach(), layer.weight.grad.clone()


@pytest.mark.parametrize("native", [True, False])
def test_only_a_processor_with_instructions_for_it_multiplies_in_bfloat16(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(fast_linear, "multiplies_bfloat16", lambda: native)
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 8, bias=False), torch.randn(4, 16)
    exact = gradients(layer, x)
    with fast_linears(layer):
        found = gradients(layer, x)
    for ours, theirs in zip(found, exact, strict=True):
        assert torch.equal(ours, theirs) is not native
        assert torch.allclose(ours, theirs, rtol=0.03, atol=0.1)
    assert torch.equal(gradients(layer, x)[1], exact[1]), "afterwards all is as it was"


@pytest.mark.parametrize("name", ["amx_bf16", "avx512_bf16", "bf16"])
def test_the_processor_is_asked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert not multiplies_bfloat16()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: True}, raising=False)
    assert multiplies_bfloat16()
