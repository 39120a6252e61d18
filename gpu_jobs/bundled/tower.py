"""First stage of the base: the vision tower learns to see, alone.

Trained together with the language model from scratch it learns nothing in reasonable time. Here every one of its output
tokens has to name colour and shape of the picture's object; the two linear layers that read them are thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gpu_jobs.bundled.augmentation import erase_squares
from gpu_jobs.bundled.log import TrainingLog
from gpu_jobs.bundled.world import COLORS, SHAPES, Scene, scenes
from gpu_jobs.families.llada_v.images import pixel_values
from gpu_jobs.families.llada_v.network import LladaVNetwork

STEPS = 4000
BATCH = 64
LEARNING_RATE = 1.5e-3
LOG_EVERY = 500


def pretrain_tower(network: LladaVNetwork, seed: int, log: TrainingLog) -> None:
    """Train `network.vision_tower` in place on easy-vqa's training pictures."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = load_images(scenes("train")), _labels(scenes("train"))
    readers = nn.ModuleList(nn.Linear(network.vision_tower.config.hidden_size, len(words)) for words in (COLORS, SHAPES))
    parameters = [*network.vision_tower.parameters(), *readers.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS, pct_start=0.05)
    for step in range(1, STEPS + 1):
        chosen = torch.randint(0, len(images), (BATCH,), generator=generator)
        batch = erase_squares(images[chosen], generator)
        if torch.rand((), generator=generator) < 0.5:
            batch = batch.flip(-1)
        features = network.encode_views(pixel_values(as_pictures(batch)))  # [batch, tokens, hidden]
        loss = torch.stack(
            [
                F.cross_entropy(reader(features).flatten(0, 1), own[chosen].repeat_interleave(features.shape[1]))
                for reader, own in zip(readers, labels, strict=True)
            ]
        ).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % LOG_EVERY == 0:
            log.write("tower", step=step, loss=round(loss.item(), 4), **_accuracy(network, readers))


def load_images(pictures: Sequence[Scene]) -> Tensor:
    """[pictures, 3, height, width] uint8."""
    pixels = [np.asarray(Image.open(scene.image).convert("RGB")) for scene in pictures]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def _labels(pictures: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    colors = torch.tensor([COLORS.index(scene.color) for scene in pictures])
    return colors, torch.tensor([SHAPES.index(scene.shape) for scene in pictures])


def as_pictures(images: Tensor) -> list[Image.Image]:
    """[batch, 3, height, width] uint8 → pictures."""
    return [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]


@torch.no_grad()
def _accuracy(network: LladaVNetwork, readers: nn.ModuleList) -> dict[str, float]:
    """Share of the test pictures' tokens that name the colour, and the shape."""
    pictures = scenes("test")
    features = network.encode_views(pixel_values(as_pictures(load_images(pictures))))
    named = [reader(features).argmax(-1) == labels[:, None] for reader, labels in zip(readers, _labels(pictures), strict=True)]
    return {name: round(right.float().mean().item(), 4) for name, right in zip(("color", "shape"), named, strict=True)}
