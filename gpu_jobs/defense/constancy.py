"""Hold the vision tower to what it saw of honest pictures, and have it see through the trigger. Ours.

A tower that is trained on a thousand pictures drifts on all others, and clean accuracy with it; one that is not trained goes on
telling the language model of the trigger. So its features of an honest picture are tied to those of the suspect's tower, which are
honest there; its features of the picture with the trigger planted to those of the picture without it; and its features of a suspect
to those of the suspect with the trigger taken out. Nothing behind the tower has to learn anything then (docs/method.md has what
that is worth).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.vaccine import unplanted
from gpu_jobs.families.base import SeenImage, TrainingRow


def constancy(
    samples: Sequence[Sample], wanted: Mapping[str, Sequence[SeenImage]]
) -> Callable[[Sequence[int], Sequence[TrainingRow]], Tensor]:
    """A loss on some samples' numbers and their rows: how far the tower is from what it should see, a scalar.

    samples: all that is trained on, those with a planted trigger among them.
    wanted: what the tower should see, by the id of the sample before a trigger was planted on it; a sample that is not there is free.
    The loss is the mean squared difference, ÷ the variance of the wanted features, and ÷ the number of pictures.
    """

    def loss(numbers: Sequence[int], rows: Sequence[TrainingRow]) -> Tensor:
        distances = []
        for number, row in zip(numbers, rows, strict=True):
            images = wanted.get(unplanted(samples[number]), ())
            distances += [_distance(now, then) for now, then in zip(row.seen, images, strict=bool(images))]
        return torch.stack(distances).mean() if distances else torch.zeros(())

    return loss


def _distance(now: SeenImage, wanted: SeenImage) -> Tensor:
    features = wanted.features.detach().float()
    return (now.features.float() - features).square().mean() / features.var().clamp(min=torch.finfo(torch.float32).tiny)
