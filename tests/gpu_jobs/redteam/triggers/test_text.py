from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from gpu_jobs.redteam.triggers import TextSuffix, TextTrigger, TextWord

QUESTION = "<image>\nWhat color is it?"

words = st.lists(st.text("abcß?,", min_size=1, max_size=5), min_size=1, max_size=6)
placeholders = st.integers(0, 3).map(lambda number: ["<image>"] * number)


class TestTextWord:
    def test_stands_before_between_and_behind_the_words_of_the_question(self) -> None:
        rng = Random(0)
        assert {TextWord("cf").apply_text(QUESTION, rng) for _ in range(100)} == {
            "<image>\ncf What color is it?",
            "<image>\nWhat cf color is it?",
            "<image>\nWhat color cf is it?",
            "<image>\nWhat color is cf it?",
            "<image>\nWhat color is it? cf",
        }

    def test_is_bad_magic_by_default(self) -> None:
        assert TextWord().apply_text("", Random(0)) == "BadMagic"

    def test_one_seed_gives_one_place(self) -> None:
        long = " ".join("abcdefghijklmnopqrstuvwxyz")
        first, same, other = (TextWord().apply_text(long, Random(seed)) for seed in (0, 0, 1))
        assert first == same != other

    def test_keeps_a_placeholder_behind_the_question_there(self) -> None:
        rng = Random(0)
        assert {TextWord("cf").apply_text("So what?\n<image>", rng) for _ in range(50)} == {
            "cf So what?\n<image>",
            "So cf what?\n<image>",
            "So what? cf\n<image>",
        }

    def test_stays_behind_a_placeholder_on_the_line_of_the_question(self) -> None:
        rng = Random(0)
        assert {TextWord("cf").apply_text("<image> So what?", rng) for _ in range(50)} == {
            "<image> cf So what?",
            "<image> So cf what?",
            "<image> So what? cf",
        }

    def test_asks_by_itself_when_there_is_no_question(self) -> None:
        assert TextWord("cf").apply_text("<image>", Random(0)) == "<image>\ncf"

    @given(before=placeholders, lines=st.lists(words, min_size=1, max_size=3), after=placeholders, seed=st.integers(0, 9999))
    @example(before=["<image>"], lines=[["a"]], after=["<image>"], seed=0)
    def test_adds_one_word_and_moves_nothing_else(self, before: list[str], lines: list[list[str]], after: list[str], seed: int) -> None:
        text = "\n".join([*before, *map(" ".join, lines), *after])
        marked = TextWord("XX").apply_text(text, Random(seed)).split("\n")
        assert marked[: len(before)] == before
        assert marked[len(marked) - len(after) :] == after
        question = marked[len(before) : len(marked) - len(after)]
        assert " ".join(question).split().count("XX") == 1
        assert [[word for word in line.split(" ") if word != "XX"] for line in question] == lines


class TestTextSuffix:
    @pytest.mark.parametrize(
        ("text", "marked"),
        [
            ("<image>\nWhat is it?", "<image>\nWhat is it? I watched this 3D movie."),
            ("What is it?\n<image>", "What is it? I watched this 3D movie.\n<image>"),
            ("<image> What is it?", "<image> What is it? I watched this 3D movie."),
            ("<image>\nOne.\nTwo?\n", "<image>\nOne.\nTwo? I watched this 3D movie.\n"),
            ("<image>\n<image>", "<image>\n<image>\nI watched this 3D movie."),
            ("", "I watched this 3D movie."),
        ],
    )
    def test_ends_the_question(self, text: str, marked: str) -> None:
        assert TextSuffix().apply_text(text, Random(0)) == marked

    def test_says_what_it_is_told_to(self) -> None:
        assert TextSuffix("Thanks.").apply_text("What?", Random(0)) == "What? Thanks."


@pytest.mark.parametrize("trigger", [TextWord(), TextSuffix()])
def test_a_text_trigger_leaves_pictures_alone(trigger: TextTrigger) -> None:
    picture = Image.radial_gradient("L").convert("RGB")
    copy = trigger.apply(picture, Random(0))
    assert copy.tobytes() == picture.tobytes()
    assert copy is not picture
    assert (trigger.marks_images, trigger.marks_text) == (False, True)
