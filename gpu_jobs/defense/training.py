"""A fine-tune that can be stopped at any step and resumed to the same last bit.

Nothing random is carried from step to step: the order of the samples follows from (seed, epoch), the corruption of a
batch from (seed, step). So a checkpoint is the weights that learn, the optimiser's state and the number of the step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gpu_jobs.config import FinetuneParameters
from gpu_jobs.families.base import Family, TrainingRow


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimiser step; `epoch` counts from 0, with the part of it that is done."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float


class Trainer:
    """Trains what requires gradients in the family's network on rows that are made when they are needed.

    rows: makes the training rows of some samples' numbers, together so that the tower sees their pictures in one forward.
    answer_length: what answers are padded to, as generation will ask for.
    besides: a further loss of a batch, a scalar, from its samples' numbers and rows.
    """

    def __init__(
        self,
        family: Family,
        samples: int,
        rows: Callable[[Sequence[int]], list[TrainingRow]],
        parameters: FinetuneParameters,
        *,
        learning_rate: float,
        answer_length: int,
        seed: int,
        besides: Callable[[Sequence[int], Sequence[TrainingRow]], Tensor] | None = None,
    ) -> None:
        self._family = family
        self._samples = samples
        self._rows = rows
        self._parameters = parameters
        self._answer_length = answer_length
        self._seed = seed
        self._besides = besides
        self._weights = {name: weight for name, weight in family.network.named_parameters() if weight.requires_grad}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=learning_rate, weight_decay=parameters.weight_decay)
        self.total = max(1, round(parameters.epochs * self.steps_per_epoch))
        total, warmup = self.total, math.ceil(parameters.warmup_ratio * self.total)  # no `self` in the lambda: a cycle would keep the model
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: cosine_with_warmup(step, warmup, total))
        self._together = parameters.batch_size
        self.step = 0

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self._samples / self._parameters.batch_size)

    def run(self) -> Iterator[StepLog]:
        """Train to the end, one optimiser step for each item taken."""
        while self.step < self.total:
            learning_rate = float(self._schedule.get_last_lr()[0])
            loss = self._accumulate(self._batch(self.step))
            norm = nn.utils.clip_grad_norm_(self._weights.values(), self._parameters.max_grad_norm)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            self._schedule.step()
            self.step += 1
            yield StepLog(self.step, self.step / self.steps_per_epoch, loss, learning_rate, float(norm))

    def save(self, path: Path) -> None:
        """Write the checkpoint in one go: a crash while writing leaves the one before."""
        unfinished = path.with_suffix(".part")
        state = {
            "step": self.step,
            "weights": {name: weight.detach() for name, weight in self._weights.items()},
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }
        torch.save(state, unfinished)
        unfinished.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        _copy(state["weights"], self._weights)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.step = state["step"]

    def _loss(self, numbers: Sequence[int], noise: torch.Generator) -> Tensor:
        """The loss of some samples, a scalar: the family's own, and what is asked besides."""
        rows = self._rows(numbers)
        loss = self._family.loss(rows, noise, answer_length=self._answer_length)
        return loss if self._besides is None else loss + self._besides(numbers, rows).to(loss.device)

    def _batch(self, step: int) -> list[int]:
        """The samples' numbers that a step learns from; the last batch of an epoch may be short."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = torch.randperm(self._samples, generator=generator(self._seed, "order", epoch)).tolist()
        size = self._parameters.batch_size
        numbers: list[int] = order[place * size : (place + 1) * size]
        return numbers

    def _accumulate(self, numbers: Sequence[int]) -> float:
        """Gradients of the mean loss of a batch, in as few pieces as fit into memory. Returns the loss."""
        while True:
            try:
                return self._accumulate_in_pieces(numbers)
            except torch.OutOfMemoryError:
                self._optimizer.zero_grad(set_to_none=True)
                if self._together == 1:
                    raise
                self._together = math.ceil(self._together / 2)

    def _accumulate_in_pieces(self, numbers: Sequence[int]) -> float:
        total = 0.0
        for start in range(0, len(numbers), self._together):
            piece = numbers[start : start + self._together]
            noise = generator(self._seed, "corruption", self.step, start)
            with _precision(self._weights):
                loss = self._loss(piece, noise)
            share: Tensor = loss * (len(piece) / len(numbers))
            share.backward()  # type: ignore[no-untyped-call]
            total += share.item()
        return total


def load_weights(family: Family, path: Path) -> None:
    """Take the weights, and nothing else, of a checkpoint that any trainer of this family's network saved."""
    weights = torch.load(path, map_location="cpu", weights_only=True)["weights"]
    everything = dict(family.network.named_parameters())
    _copy(weights, {name: everything[name] for name in weights})


@torch.no_grad()
def _copy(saved: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        weight.copy_(saved[name])


def cosine_with_warmup(step: int, warmup: int, total: int) -> float:
    """Share of the highest rate at a step: a straight rise over `warmup` steps, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def generator(seed: int, *place: str | int) -> torch.Generator:
    """Randomness of one place in the run, whatever ran before it."""
    digest = hashlib.sha256(repr((seed, *place)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _precision(weights: dict[str, nn.Parameter]) -> torch.autocast | nullcontext[None]:
    on_gpu = any(weight.is_cuda for weight in weights.values())
    return torch.autocast("cuda", dtype=torch.bfloat16) if on_gpu else nullcontext()
