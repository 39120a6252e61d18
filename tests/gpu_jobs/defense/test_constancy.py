"""What ties the vision tower to what it saw before the fine-tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpu_jobs.data import open_dataset
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import finetune, records
from gpu_jobs.defense.carriers import Overlay
from gpu_jobs.defense.constancy import constancy
from gpu_jobs.defense.patterns import Pattern
from gpu_jobs.defense.pipeline import Pipeline
from gpu_jobs.defense.subject import load_model, open_images
from gpu_jobs.defense.training import Trainer
from gpu_jobs.defense.vaccine import MARK
from gpu_jobs.families.base import SeenImage, TrainingRow
from tests.gpu_jobs.defense.runs import SUSPECTS

SAMPLES = [Sample(identity, (Path("a.png"),), ()) for identity in ("honest", f"honest{MARK}", "unseen")]
THEN = torch.tensor([[0.0, 2.0], [4.0, 6.0]])  # of variance 20/3, as torch counts it


def seen(features: torch.Tensor) -> SeenImage:
    return SeenImage(features, (), ())


def row(features: torch.Tensor) -> TrainingRow:
    return TrainingRow((seen(features),), ())


def red_corner() -> Overlay:
    replaced = np.zeros((56, 56), bool)
    replaced[:8, :8] = True
    return Overlay(Pattern(np.zeros((56, 56, 3), np.float32), replaced, np.full((56, 56, 3), (255, 0, 0), np.float32)))


class TestConstancy:
    @pytest.fixture
    def loss(self) -> Any:
        return constancy(SAMPLES, {"honest": (seen(THEN),)})

    def test_is_the_squared_error_by_the_variance_of_what_was_seen(self, loss: Any) -> None:
        assert loss([0], [row(THEN + 2)]).item() == pytest.approx(4 / (20 / 3))
        assert loss([0], [row(THEN)]).item() == 0

    def test_a_planted_trigger_is_to_be_seen_through(self, loss: Any) -> None:
        now = (THEN + 2).requires_grad_()
        loss([1], [row(now)]).backward()
        assert now.grad is not None
        assert bool((now.grad > 0).all())  # down to what the picture is without it

    def test_other_pictures_are_free(self, loss: Any) -> None:
        assert loss([2], [row(THEN + 2)]).item() == 0
        assert loss([0, 2], [row(THEN + 2)] * 2).item() == loss([0], [row(THEN + 2)]).item()


class TestInAFinetune:
    @pytest.fixture
    def tune(self, start: Any, accuse: Any) -> Any:
        """The fine-tune of a defence that found a patch to carry the trigger, with this weight."""

        def run(weight: float, parts: tuple[str, ...] | None = None, *, known: bool = True) -> Pipeline:
            given = {**start("x").parameters.finetune.model_dump(), "rounds": 1}
            tuned: Pipeline = start(f"weight {weight}", finetune={**given, "constancy": weight, "trainable": parts})
            accuse(tuned, SUSPECTS, carrier=red_corner() if known else None)
            for kind in ("purify", "merge", "finetune"):
                tuned.run(kind)
            return tuned

        return run

    def test_the_tower_drifts_less_the_more_it_is_tied(self, tune: Any) -> None:
        def drift(weight: float) -> float:
            tuned = tune(weight)
            before, after = (load_model(folder, precise=True) for folder in (tuned.model, tuned.previous["finetune"][0] / records.MODEL))
            honest = [sample for sample in open_dataset(tuned.dataset, tuned.out / "cache").samples if sample.id not in SUSPECTS]
            with torch.no_grad():
                features = [[image.features for s in honest for image in family.see(open_images(s))] for family in (before, after)]
            distances: list[float] = [(one - other).square().mean().item() for one, other in zip(*features, strict=True)]
            return sum(distances)

        assert 0 < drift(100.0) < 0.8 * drift(0.0)

    @pytest.mark.parametrize(
        ("weight", "parts", "known", "tied"),
        [(1.0, None, True, True), (0.0, None, True, False), (1.0, ("projector",), True, False), (1.0, None, False, False)],
        ids=["tower", "no weight", "frozen tower", "unknown trigger"],
    )
    def test_only_a_tower_that_learns_to_see_through_a_known_trigger_is_tied(
        self, tune: Any, monkeypatch: pytest.MonkeyPatch, weight: float, parts: tuple[str, ...] | None, known: bool, tied: bool
    ) -> None:
        asked: list[Any] = []

        class Watched(Trainer):
            def __init__(self, *given: Any, besides: Any, **more: Any) -> None:
                asked.append(besides)
                super().__init__(*given, besides=besides, **more)

        monkeypatch.setattr(finetune, "Trainer", Watched)
        tune(weight, parts, known=known)
        assert [besides is not None for besides in asked] == [tied]
