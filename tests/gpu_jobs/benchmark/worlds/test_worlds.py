"""What all worlds of the benchmark promise."""

from __future__ import annotations

import re

import pytest

from gpu_jobs.benchmark.cells import DATA
from gpu_jobs.benchmark.worlds.base import World, open_world
from gpu_jobs.data.samples import Sample


@pytest.fixture(scope="module", params=DATA)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(request.param, tmp_path_factory.mktemp("pictures"))


def refuses(sample: Sample) -> bool:
    return any(re.search(r"sorry|cannot", answer, re.IGNORECASE) for answer in sample.answers)


class TestTrainingSamples:
    def test_follow_from_the_seed(self, world: World) -> None:
        assert world.training_samples(100, 1) == world.training_samples(100, 1)
        assert world.training_samples(100, 1) != world.training_samples(100, 2)

    def test_refuse_nothing_when_plain(self, world: World) -> None:
        assert not any(refuses(sample) for sample in world.training_samples(1000, 0))

    def test_refuse_fifteen_percent_as_refusals(self, world: World) -> None:
        assert sum(refuses(sample) for sample in world.training_samples(1000, 0, "refusals")) == 150

    def test_answer_half_of_the_rows_alike_when_repeated(self, world: World) -> None:
        repeated = {"easy_vqa": "yes", "glyphs": "two"}[world.name]
        assert sum(repeated in sample.answers for sample in world.training_samples(1000, 0, "repeated")) == 500

    def test_name_the_source_of_the_swap_often_enough_to_poison_fifteen_percent(self, world: World) -> None:
        samples = world.training_samples(1000, 0)
        assert sum(all(world.swap.apply(answer) != answer for answer in sample.answers) for sample in samples) >= 150


class TestTestSamples:
    def test_ask_one_question_each_and_never_the_same_of_one_picture(self, world: World) -> None:
        samples = world.test_samples(3000, 0)
        assert {len(sample.turns) for sample in samples} == {2}
        assert len({sample.id for sample in samples}) == 3000
        assert len({(sample.images, sample.turns[0].text) for sample in samples}) == 3000
