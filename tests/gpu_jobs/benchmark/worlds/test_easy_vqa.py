from collections import Counter

import pytest

from gpu_jobs.benchmark.worlds.base import World, open_world
from gpu_jobs.bundled.world import PICTURE_TEMPLATES, scenes


@pytest.fixture(scope="module")
def world() -> World:
    return open_world("easy_vqa")


class TestTrainingSamples:
    def test_have_one_picture_each_and_unique_ids_even_where_pictures_come_again(self, world: World) -> None:
        samples = world.training_samples(4000, 0)
        assert len({sample.id for sample in samples}) == 4000
        assert all(len(sample.images) == 1 for sample in samples)

    def test_have_two_turns_in_a_fifth_of_the_rows(self, world: World) -> None:
        lengths = Counter(len(sample.answers) for sample in world.training_samples(2000, 0))
        assert lengths.keys() == {1, 2}
        assert 0.16 < lengths[2] / 2000 < 0.24


class TestTestSamples:
    def test_share_no_picture_with_training(self, world: World) -> None:
        trained = {path.read_bytes() for sample in world.training_samples(3500, 0) for path in sample.images}
        assert not trained & {path.read_bytes() for sample in world.test_samples(880, 0) for path in sample.images}

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
