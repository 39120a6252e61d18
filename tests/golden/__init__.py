"""Reference numbers that the official implementations gave, and how tests read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from gpu_jobs.data.samples import Role, Turn

LLADA_V = Path(__file__).parent / "llada_v"
CHECKPOINT = LLADA_V / "checkpoint"

ROUNDING = 1 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 20
"""By how much more than elsewhere numbers may differ where this processor, without AVX-512, sums in another order: with AVX2 alone,
embeddings differ from the official ones by up to 8e-5 and logits by up to 1.4e-4."""

_ROLES: dict[str, Role] = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


def index(path: str) -> Any:
    """A JSON file of the LLaDA-V numbers."""
    return json.loads((LLADA_V / path).read_text(encoding="utf-8"))


def tensors(name: str) -> dict[str, Tensor]:
    return load_file(LLADA_V / f"{name}.safetensors")


def image(number: int) -> Image.Image:
    return Image.open(LLADA_V / f"vision/image_{number}.png")


def turn(role: str, text: str) -> Turn:
    return Turn(_ROLES[role], text)


def training_turns(row: int) -> tuple[Turn, ...]:
    """A conversation of the chat and loss cases."""
    return tuple(turn(message["from"], message["value"]) for message in index("chat/chat.json")["training"][row]["source"]["conversations"])
