"""A base: a LLaDA-V of small numbers that answers questions about the pictures of one world."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import torch
from torch import nn

from gpu_jobs.bundled.augmentation import erase_squares, hidden_vision_tokens
from gpu_jobs.bundled.blueprint import write_blueprint
from gpu_jobs.bundled.curriculum import Curriculum, Kind, Picture
from gpu_jobs.bundled.exam import ANSWER_TOKENS, accuracy_by_kind
from gpu_jobs.bundled.fast_linear import fast_linears
from gpu_jobs.bundled.log import TrainingLog
from gpu_jobs.bundled.tower import as_pictures, load_images, pretrain_tower
from gpu_jobs.families.base import SeenImage, TrainingRow
from gpu_jobs.families.llada_v.family import LladaV

BATCH = 32
LEARNING_RATE = 1.5e-3
EVALUATE_EVERY = 500
# Every picture is looked at once in this many augmented forms, and then never again: the tower is frozen.
VIEWS_PER_PICTURE = 6
TURNS = {1: 0.5, 2: 0.3, 3: 0.2}


def train_base(curriculum: Curriculum[Picture, Kind], folder: Path, *, seed: int, log: TrainingLog) -> LladaV:
    """Train a base, write its checkpoint to `folder` and return it."""
    log.start(*curriculum.packages, model="base", seed=seed, steps=curriculum.answer_steps, batch=BATCH, learning_rate=LEARNING_RATE)
    with tempfile.TemporaryDirectory() as blueprint:
        write_blueprint(Path(blueprint), curriculum.texts)
        family = LladaV.create(Path(blueprint), seed=seed)
    torch.manual_seed(seed)
    pretrain_tower(family.network, curriculum, seed, log)
    family.network.vision_tower.requires_grad_(False)
    _train_to_answer(family, curriculum, seed, log)
    family.save(folder)
    log.write("test", **accuracy_by_kind(family, curriculum, 400, seed=seed))
    return family


def _train_to_answer(family: LladaV, curriculum: Curriculum[Picture, Kind], seed: int, log: TrainingLog) -> None:
    """Second stage: projector and language model learn to answer, by the family's own loss."""
    generator, rng = torch.Generator().manual_seed(seed), Random(seed)
    looks = _look(family, curriculum, generator)
    log.write("looked", pictures=len(curriculum.training))
    parameters = [*family.network.projector.parameters(), *family.network.language_model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=curriculum.answer_steps, pct_start=0.08)
    for step in range(1, curriculum.answer_steps + 1):
        # One number of turns for a whole batch, so that little of it is padding.
        turns = rng.choices(list(TURNS), list(TURNS.values()))[0]
        rows = [_row(curriculum, rng.choice(looks), turns, rng, generator) for _ in range(BATCH)]
        # Generation starts from a whole block of masks; the model has to know what lies behind a short answer.
        with fast_linears(family.network.language_model.model):
            loss = family.loss(rows, generator, answer_length=ANSWER_TOKENS if rng.random() < 0.5 else None)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            log.write("answers", step=step, loss=round(loss.item(), 4))
        if step % EVALUATE_EVERY == 0:
            log.write("accuracy", step=step, **accuracy_by_kind(family, curriculum, 60, seed=seed))


@torch.no_grad()
def _look(family: LladaV, curriculum: Curriculum[Picture, Kind], generator: torch.Generator) -> list[list[SeenImage]]:
    """Every picture as the tower sees it: as it is and, where that is the same to the world, mirrored; then with squares erased."""
    images = load_images(curriculum, curriculum.training)
    whole = [images, images.flip(-1)] if curriculum.mirrored else [images]
    erased = [erase_squares(whole[form % len(whole)], generator, curriculum.erasing) for form in range(VIEWS_PER_PICTURE - len(whole))]
    return [family.see(as_pictures(form)) for form in (*whole, *erased)]


def _row(curriculum: Curriculum[Picture, Kind], looks: list[SeenImage], turns: int, rng: Random, generator: torch.Generator) -> TrainingRow:
    number = rng.randrange(len(curriculum.training))
    kinds = rng.choices([*curriculum.kinds], [*curriculum.kinds.values()], k=turns)
    sample = curriculum.converse(curriculum.training[number], kinds, rng)
    look = looks[number]
    return TrainingRow((look,), sample.turns, hidden_vision_tokens(len(look.regions), generator))
