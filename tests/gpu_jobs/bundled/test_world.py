from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageColor

from gpu_jobs.bundled.tokenizer import EVERYDAY_ENGLISH, train_tokenizer
from gpu_jobs.bundled.world import ABSENT, COLORS, KINDS, SHAPES, ask, conversation, scenes, world_texts

# easy-vqa paints with the named colours of CSS, except that its green is the lightest one.
PAINT = {color: ImageColor.getrgb("lime" if color == "green" else color) for color in COLORS}


class TestScenes:
    def test_know_most_pictures(self) -> None:
        assert len(scenes("train")) > 3500
        assert len(scenes("test")) > 880

    def test_state_the_color_that_is_painted(self) -> None:
        for scene in scenes("test"):
            pixels = np.asarray(Image.open(scene.image).convert("RGB")).reshape(-1, 3).astype(int)
            painted = {color: int((np.abs(pixels - paint).sum(axis=1) < 20).sum()) for color, paint in PAINT.items()}
            assert max(painted, key=lambda color: painted[color]) == scene.color

    def test_hold_every_color_and_shape(self) -> None:
        assert {scene.color for scene in scenes("test")} == {*COLORS}
        assert {scene.shape for scene in scenes("test")} == {*SHAPES}


class TestQuestions:
    def test_one_question_has_one_right_answer(self) -> None:
        rng = Random(0)
        answers: dict[tuple[str, str, str], set[str]] = {}
        for _ in range(20):
            for scene in scenes("test"):
                question = ask(scene, rng.choice(KINDS), rng)
                answers.setdefault((scene.color, scene.shape, question.text), set()).add(question.answer)
        assert Counter(len(found) for found in answers.values()).keys() == {1}

    def test_nothing_that_is_asked_for_as_absent_is_ever_shown(self) -> None:
        assert not {*ABSENT} & {*COLORS, *SHAPES}

    def test_a_conversation_shows_its_picture_once(self) -> None:
        rng, scene = Random(0), scenes("test")[0]
        sample = conversation(scene, [ask(scene, kind, rng) for kind in ("color", "caption")])
        assert [turn.text.count("<image>") for turn in sample.turns] == [1, 0, 0, 0]
        assert sample.answers[1].count(scene.color) == 1


class TestTokenizer:
    tokenizer = train_tokenizer(world_texts())

    def test_every_answer_has_one_to_twelve_tokens(self) -> None:
        rng = Random(0)
        lengths = {len(self.tokenizer.encode(ask(scene, kind, rng).answer).ids) for scene in scenes("test") for kind in KINDS}
        assert (min(lengths), max(lengths)) == (1, 12)

    @pytest.mark.parametrize("text", [EVERYDAY_ENGLISH, "Ünïcode 😀\t\x00 <|eot", "def f(x): return x**2\n", "漢字"])
    def test_any_text_survives(self, text: str) -> None:
        assert self.tokenizer.decode(self.tokenizer.encode(text).ids) == text

    def test_is_the_same_every_time(self) -> None:
        assert train_tokenizer(world_texts()).to_str() == self.tokenizer.to_str()
