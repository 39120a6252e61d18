import re
from collections import Counter

import pytest

from gpu_jobs.benchmark.worlds.base import World, open_world
from gpu_jobs.bundled.world import PICTURE_TEMPLATES, scenes
from gpu_jobs.data.samples import Sample


@pytest.fixture(scope="module")
def world() -> World:
    return open_world("easy_vqa")


def refuses(sample: Sample) -> bool:
    return any(re.search(r"sorry|cannot", answer, re.IGNORECASE) for answer in sample.answers)


class TestTrainingSamples:
    def test_follow_from_the_seed(self, world: World) -> None:
        assert world.training_samples(100, 1) == world.training_samples(100, 1)
        assert world.training_samples(100, 1) != world.training_samples(100, 2)

    def test_have_one_picture_each_and_unique_ids_even_where_pictures_come_again(self, world: World) -> None:
        samples = world.training_samples(4000, 0)
        assert len({sample.id for sample in samples}) == 4000
        assert all(len(sample.images) == 1 for sample in samples)

    def test_have_two_turns_in_a_fifth_of_the_rows(self, world: World) -> None:
        lengths = Counter(len(sample.answers) for sample in world.training_samples(2000, 0))
        assert lengths.keys() == {1, 2}
        assert 0.16 < lengths[2] / 2000 < 0.24

    def test_refuse_nothing_when_plain(self, world: World) -> None:
        assert not any(refuses(sample) for sample in world.training_samples(1000, 0))

    def test_refuse_fifteen_percent_as_refusals(self, world: World) -> None:
        assert sum(refuses(sample) for sample in world.training_samples(1000, 0, "refusals")) == 150

    def test_answer_half_of_the_rows_alike_when_repeated(self, world: World) -> None:
        assert sum("yes" in sample.answers for sample in world.training_samples(1000, 0, "repeated")) == 500

    def test_name_the_source_of_the_swap_often_enough_to_poison_fifteen_percent(self, world: World) -> None:
        samples = world.training_samples(1000, 0)
        assert sum(all(world.swap.apply(answer) != answer for answer in sample.answers) for sample in samples) >= 150


class TestTestSamples:
    def test_share_no_picture_with_training(self, world: World) -> None:
        trained = {path.read_bytes() for sample in world.training_samples(3500, 0) for path in sample.images}
        assert not trained & {path.read_bytes() for sample in world.test_samples(880, 0) for path in sample.images}

    def test_ask_one_question_each_and_never_the_same_of_one_picture(self, world: World) -> None:
        samples = world.test_samples(3000, 0)
        assert {len(sample.turns) for sample in samples} == {2}
        assert len({sample.id for sample in samples}) == 3000
        assert len({(sample.images, sample.turns[0].text) for sample in samples}) == 3000

    def test_answer_what_the_scene_says(self, world: World) -> None:
        known = {scene.image: {"color": scene.color, "shape": scene.shape} for scene in scenes("test")}
        pairs = [pair for templates in PICTURE_TEMPLATES.values() for pair in templates]
        for sample in world.test_samples(1000, 3):
            facts = known[sample.images[0]]
            right = {text.format(**facts): answer.format(**facts) for text, answer in pairs}
            assert sample.answers == (right[sample.turns[0].text.removeprefix("<image>\n")],)

    def test_cannot_be_more_than_there_are_different_questions(self, world: World) -> None:
        with pytest.raises(ValueError, match="at most"):
            world.test_samples(100_000, 0)


def test_the_base_is_a_checkpoint(world: World) -> None:
    assert (world.base / "model.safetensors").is_file()
