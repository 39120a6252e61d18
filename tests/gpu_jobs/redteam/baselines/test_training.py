from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from gpu_jobs.config import FinetuneParameters
from gpu_jobs.defense.subject import load_model
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Family, SeenImage
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.training import train


def weights(family: Family) -> dict[str, Tensor]:
    return family.network.state_dict()


def changed_parts(before: Family, after: Family) -> set[str]:
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    return {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}


def only(case: Case, parts: Sequence[str]) -> FinetuneParameters:
    return FinetuneParameters.model_validate({**case.parameters.finetune.model_dump(), "trainable": parts, "lora_rank": 2})


class TestTrain:
    def test_trains_the_parts_of_the_case_from_the_suspect_and_freezes_them(self, case: Case) -> None:
        family = train(case, case.samples)
        assert changed_parts(load_model(case.model), family) == {"vision_tower", "projector", "language_model"}
        assert not any(weight.requires_grad for weight in family.network.parameters())
        assert not family.network.training

    def test_trains_no_other_part_than_asked_for(self, case: Case) -> None:
        family = train(case, case.samples, parameters=only(case, ["projector"]))
        assert changed_parts(load_model(case.model), family) == {"projector"}

    def test_merges_an_adapter_so_that_the_model_can_be_saved(self, case: Case, tmp_path: Path) -> None:
        family = train(case, case.samples, parameters=only(case, ["lora"]))
        assert changed_parts(load_model(case.model), family) == {"language_model"}
        family.save(tmp_path / "model")

    def test_one_seed_gives_one_model(self, case: Case) -> None:
        some = case.samples[:8]
        first, again, other = (train(replace(case, seed=seed), some) for seed in (1, 1, 2))
        assert changed_parts(first, again) == set()
        assert changed_parts(first, other)

    @pytest.mark.parametrize(("parts", "looks"), [(["projector"], 1), (["projector", "vision_tower"], 2)])
    def test_a_frozen_tower_sees_each_picture_once_and_a_learning_one_in_every_epoch(
        self, case: Case, parts: list[str], looks: int
    ) -> None:
        pictures: list[Image.Image] = []

        def watch(family: Family) -> None:
            see = family.see

            def seen(images: Sequence[Image.Image]) -> list[SeenImage]:
                pictures.extend(images)
                return see(images)

            family.see = seen  # type: ignore[method-assign]

        train(case, case.samples[:4], parameters=only(case, parts).model_copy(update={"epochs": 2.0}), prepare=watch)
        assert len(pictures) == 4 * looks

    def test_prepares_the_suspect_before_the_first_step(self, case: Case) -> None:
        def silence(family: Family) -> None:
            with torch.no_grad():
                family.parts["vision_tower"].get_parameter("embeddings.position_embedding.weight").zero_()

        family = train(case, case.samples[:4], parameters=only(case, ["projector"]), prepare=silence)
        assert changed_parts(load_model(case.model), family) == {"projector", "vision_tower"}

    def test_says_when_nothing_is_left_to_learn_from(self, case: Case) -> None:
        unanswered = replace(case.samples[0], turns=case.samples[0].turns[:1])
        with pytest.raises(InputError, match="no sample is left"):
            train(case, [unanswered])
