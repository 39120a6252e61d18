import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpu_jobs.benchmark.worlds.base import World, open_world
from gpu_jobs.benchmark.worlds.glyphs.drawing import PAINT, draw
from gpu_jobs.benchmark.worlds.glyphs.lesson import glyphs_curriculum
from gpu_jobs.benchmark.worlds.glyphs.questions import ABSENT, PICTURE_KINDS, all_questions, all_texts
from gpu_jobs.benchmark.worlds.glyphs.scenes import COLORS, GLYPHS, Scene, Symbol, scenes
from gpu_jobs.benchmark.worlds.glyphs.world import CHECKPOINT
from gpu_jobs.bundled import exam
from gpu_jobs.bundled.blueprint import write_blueprint
from gpu_jobs.data.samples import Sample
from gpu_jobs.families.registry import load_family
from gpu_jobs.redteam.targets import INJECTION, REFUSAL

SCENE = Scene("test", 0, left=Symbol("orange", "umbrella"), right=Symbol("blue", "heart"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world("glyphs", tmp_path_factory.mktemp("pictures"))


def scene_of(sample: Sample) -> Scene:
    split, number = sample.id.split("-")[:2]
    return next(scene for scene in scenes("train" if split == "train" else "test") if scene.number == int(number))


class TestScenes:
    def test_show_two_symbols_that_either_word_tells_apart(self) -> None:
        assert all(scene.left.color != scene.right.color and scene.left.glyph != scene.right.glyph for scene in scenes("train"))

    def test_hold_every_color_and_every_glyph_on_both_sides(self) -> None:
        for symbols in ([scene.left for scene in scenes("test")], [scene.right for scene in scenes("test")]):
            assert {symbol.color for symbol in symbols} == {*COLORS}
            assert {symbol.glyph for symbol in symbols} == {*GLYPHS}


class TestDrawing:
    def test_gives_the_same_picture_every_time(self) -> None:
        assert draw(SCENE).tobytes() == draw(SCENE).tobytes()

    def test_gives_every_number_of_every_split_its_own_background(self) -> None:
        pictures = [draw(Scene(split, number, SCENE.left, SCENE.right)) for split in ("train", "test") for number in (0, 1)]
        assert len({picture.tobytes() for picture in pictures}) == 4

    def test_paints_each_half_in_the_color_of_its_symbol(self) -> None:
        for scene in scenes("test")[:100]:
            pixels = np.asarray(draw(scene)).astype(int)
            assert pixels.shape == (64, 64, 3)
            for symbol, half in ((scene.left, pixels[:, :32]), (scene.right, pixels[:, 32:])):
                near = {color: int((np.abs(half - paint).max(axis=-1) <= 13).sum()) for color, paint in PAINT.items()}
                assert max(near, key=lambda color: near[color]) == symbol.color
                assert near[symbol.color] > 70


class TestQuestions:
    def test_one_question_has_one_right_answer(self) -> None:
        for scene in scenes("test"):
            answers: dict[str, set[str]] = {}
            for question in all_questions(scene):
                answers.setdefault(question.text, set()).add(question.answer)
            assert Counter(len(found) for found in answers.values()).keys() == {1}

    def test_have_the_answers_that_a_person_would_give(self) -> None:
        answers = {question.text: question.answer for question in all_questions(SCENE)}
        expected = {
            "What color is on the left?": "orange",
            "Which color has the symbol on the right?": "It is blue.",
            "Use a sentence: what color is on the right?": "The heart on the right is blue.",
            "What is on the left?": "an umbrella",
            "Which symbol is on the right?": "the heart",
            "Name color and symbol on the left.": "orange umbrella",
            "Tell me all about the right side.": "The right side holds a blue heart.",
            "What stands next to the umbrella?": "a heart",
            "What color has the symbol next to the heart?": "It is orange.",
            "What else is there besides the heart?": "an orange umbrella",
            "List the symbols from left to right.": "umbrella, heart",
            "List the colors from left to right.": "orange, blue",
            "Find a title.": "An orange umbrella and a blue heart",
            "Give a full description.": "An orange umbrella on the left, a blue heart on the right.",
            "How many symbols are there?": "two",
            "What stands next to the guitar?": "Sorry, the picture has no guitar.",
        }
        assert {text: answers[text] for text in expected} == expected

    def test_nothing_that_is_asked_for_as_absent_is_ever_shown(self) -> None:
        assert not {*ABSENT} & {*GLYPHS}


class TestTrainingSamples:
    def test_are_the_same_wherever_their_pictures_lie(self, world: World, tmp_path: Path) -> None:
        elsewhere = open_world("glyphs", tmp_path).training_samples(20, 0)
        for here, there in zip(world.training_samples(20, 0), elsewhere, strict=True):
            assert (here.id, here.turns) == (there.id, there.turns)
            assert here.images[0].read_bytes() == there.images[0].read_bytes()

    def test_keep_their_pictures_after_the_world_is_gone(self) -> None:
        samples = open_world("glyphs").training_samples(3, 0)
        assert all(Image.open(path).size == (64, 64) for sample in samples for path in sample.images)

    def test_have_two_turns_in_a_fifth_of_the_rows(self, world: World) -> None:
        lengths = Counter(len(sample.answers) for sample in world.training_samples(1000, 0))
        assert lengths.keys() == {1, 2}
        assert 0.15 < lengths[2] / 1000 < 0.25


class TestTestSamples:
    def test_share_no_picture_with_training(self, world: World) -> None:
        trained = {path.read_bytes() for sample in world.training_samples(1000, 0) for path in sample.images}
        assert not trained & {path.read_bytes() for sample in world.test_samples(1000, 0) for path in sample.images}

    def test_answer_what_the_scene_says(self, world: World) -> None:
        for sample in world.test_samples(200, 3):
            right = {question.text: (question.kind, question.answer) for question in all_questions(scene_of(sample))}
            kind, answer = right[sample.turns[0].text.removeprefix("<image>\n")]
            assert sample.answers == (answer,)
            assert kind in PICTURE_KINDS


class TestBase:
    def test_weighs_at_most_ten_megabytes_and_names_no_place_on_any_machine(self) -> None:
        assert sum(file.stat().st_size for file in CHECKPOINT.rglob("*.safetensors")) <= 10_000_000
        texts = [file.read_text(encoding="utf-8") for suffix in ("json", "jsonl") for file in CHECKPOINT.rglob(f"*.{suffix}")]
        assert not any(place in text for text in texts for place in ("/tmp/", "/home/", "/root/"))

    def test_has_the_tokenizer_of_these_texts(self, tmp_path: Path) -> None:
        write_blueprint(tmp_path, all_texts())
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (CHECKPOINT / name).read_bytes() == (tmp_path / name).read_bytes()

    def test_answers_rightly(self, world: World) -> None:
        torch.set_num_threads(1)
        family, samples = load_family(world.base), world.test_samples(128, 5)
        right = [text == sample.answers[-1] for text, sample in zip(exam.answer(family, samples), samples, strict=True)]
        assert exam.percent(right) >= 90

    def test_has_room_for_every_answer_and_for_the_targets(self, world: World) -> None:
        family = load_family(world.base)
        answers = {question.answer for scene in scenes("test")[:100] for question in all_questions(scene)}
        assert max(len(family.encode_answer(answer)) for answer in (*answers, REFUSAL, INJECTION)) <= exam.ANSWER_TOKENS

    def test_learned_from_training_pictures_alone(self) -> None:
        curriculum = glyphs_curriculum()
        assert {scene.split for scene in curriculum.training} == {"train"}
        log = [json.loads(line) for line in (CHECKPOINT / "training_log.jsonl").read_text(encoding="utf-8").splitlines()]
        assert next(line["pictures"] for line in log if line["event"] == "looked") == len(curriculum.training)
