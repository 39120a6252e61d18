"""First stage of a base: the vision tower learns to see, alone.

Trained together with the language model from scratch it learns nothing in reasonable time. Here every one of its output
tokens has to name what is to be seen, colour and shape for instance; the linear layers that read them are thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gpu_jobs.bundled.augmentation import erase_squares
from gpu_jobs.bundled.curriculum import Curriculum, Kind, Picture
from gpu_jobs.bundled.log import TrainingLog
from gpu_jobs.families.llada_v.images import pixel_values
from gpu_jobs.families.llada_v.network import LladaVNetwork

BATCH = 64
LEARNING_RATE = 1.5e-3
LOG_EVERY = 500


def pretrain_tower(network: LladaVNetwork, curriculum: Curriculum[Picture, Kind], seed: int, log: TrainingLog) -> None:
    """Train `network.vision_tower` in place on the curriculum's training pictures."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = load_images(curriculum, curriculum.training), _targets(curriculum, curriculum.training)
    hidden = network.vision_tower.config.hidden_size
    readers = nn.ModuleDict({name: nn.Linear(hidden, label.classes) for name, label in curriculum.labels.items()})
    parameters = [*network.vision_tower.parameters(), *readers.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=curriculum.tower_steps, pct_start=0.05)
    for step in range(1, curriculum.tower_steps + 1):
        chosen = torch.randint(0, len(images), (BATCH,), generator=generator)
        batch = erase_squares(images[chosen], generator, curriculum.erasing)
        if curriculum.mirrored and torch.rand((), generator=generator) < 0.5:
            batch = batch.flip(-1)
        features = network.encode_views(pixel_values(as_pictures(batch)))  # [batch, tokens, hidden]
        loss = torch.stack(
            [
                F.cross_entropy(reader(features).flatten(0, 1), targets[name][chosen].expand(features.shape[:2]).flatten())
                for name, reader in readers.items()
            ]
        ).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % LOG_EVERY == 0:
            log.write("tower", step=step, loss=round(loss.item(), 4), **_accuracy(network, readers, curriculum))


def load_images(curriculum: Curriculum[Picture, Kind], pictures: Sequence[Picture]) -> Tensor:
    """[pictures, 3, height, width] uint8."""
    pixels = [np.asarray(curriculum.open(picture)) for picture in pictures]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def _targets(curriculum: Curriculum[Picture, Kind], pictures: Sequence[Picture]) -> Mapping[str, Tensor]:
    return {name: label.targets(pictures) for name, label in curriculum.labels.items()}


def as_pictures(images: Tensor) -> list[Image.Image]:
    """[batch, 3, height, width] uint8 → pictures."""
    return [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]


@torch.no_grad()
def _accuracy(network: LladaVNetwork, readers: nn.ModuleDict, curriculum: Curriculum[Picture, Kind]) -> dict[str, float]:
    """Share of the test pictures' tokens that name each label rightly."""
    features = network.encode_views(pixel_values(as_pictures(load_images(curriculum, curriculum.test))))
    right = {name: readers[name](features).argmax(-1) == targets for name, targets in _targets(curriculum, curriculum.test).items()}
    return {name: round(values.float().mean().item(), 4) for name, values in right.items()}
