"""Putting a phrase into a question, taking it out again, and telling a trigger from a subject."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpu_jobs.defense.phrases import Place, as_many_words, delete, has, insert, superfluous_phrase, superfluous_phrases
from gpu_jobs.redteam.triggers import TextSuffix, TextWord

# The words of questions and of phrases have no letter in common: which of two equal words is the phrase cannot be known.
plain_words = st.lists(st.text("abcß?,", min_size=1, max_size=5), max_size=4).map(" ".join)
questions = st.lists(plain_words, min_size=1, max_size=4).flatmap(
    lambda texts: st.lists(st.sampled_from(["<image>\n", " <image> ", "\n<image>", "<image><image>\n"]), max_size=3).map(
        lambda placeholders: "".join(text + placeholder for text, placeholder in zip(texts, [*placeholders, "", "", "", ""], strict=False))
    )
)
phrases = st.lists(st.text("xyzXÿ.!", min_size=1, max_size=5), min_size=1, max_size=4).map(" ".join)
places = st.sampled_from(["end", "anywhere"])
seeds = st.integers(0, 9999)


class TestInsert:
    def test_anywhere_is_before_between_and_behind_the_words_of_the_question(self) -> None:
        assert {insert("<image>\nWhat is it?", "cf", "anywhere", Random(seed)) for seed in range(60)} == {
            "<image>\ncf What is it?",
            "<image>\nWhat cf is it?",
            "<image>\nWhat is cf it?",
            "<image>\nWhat is it? cf",
        }

    @pytest.mark.parametrize(
        ("question", "expected"),
        [
            ("<image>\nWhat is it?", "<image>\nWhat is it? cf"),
            ("What is it?\n<image>", "What is it? cf\n<image>"),
            ("<image> and <image>: alike?", "<image> and <image>: alike? cf"),
            ("<image>", "<image>\ncf"),
            ("<image><image>", "<image><image>\ncf"),
            ("", "cf"),
        ],
    )
    def test_the_end_is_that_of_the_question_not_that_of_its_pictures(self, question: str, expected: str) -> None:
        assert insert(question, "cf", "end", Random(0)) == expected

    @given(question=questions, phrase=phrases, place=places, seed=seeds)
    @example(question="<image> and <image>", phrase="xx", place="anywhere", seed=1)
    @example(question="<image><image>", phrase="xx", place="anywhere", seed=0)
    def test_the_first_picture_is_shown_before_the_phrase_unless_the_question_was_too(
        self, question: str, phrase: str, place: Place, seed: int
    ) -> None:
        marked = insert(question, phrase, place, Random(seed))
        assert marked.count("<image>") == question.count("<image>")
        if question.strip().startswith("<image>"):
            assert marked.strip().startswith("<image>")

    @given(question=questions, phrase=phrases, place=places, seed=seeds)
    def test_one_seed_gives_one_place(self, question: str, phrase: str, place: Place, seed: int) -> None:
        assert insert(question, phrase, place, Random(seed)) == insert(question, phrase, place, Random(seed))


class TestDelete:
    @given(question=questions, phrase=phrases, place=places, seed=seeds)
    @example(question="a <image> b <image>", phrase="x y", place="anywhere", seed=3)
    def test_it_undoes_insert_up_to_white_space(self, question: str, phrase: str, place: Place, seed: int) -> None:
        undone = delete(insert(question, phrase, place, Random(seed)), phrase)
        assert "".join(undone.split()) == "".join(question.split())
        assert undone.replace("<image>", " ").split() == question.replace("<image>", " ").split()

    def test_it_finds_the_phrase_in_whatever_case_and_as_often_as_it_stands(self) -> None:
        assert delete("<image>\nBADmagic What badMagic is it?", "BadMagic") == "<image>\nWhat is it?"

    def test_a_longer_word_is_not_the_phrase(self) -> None:
        assert delete("What does acf or cfc mean?", "cf") == "What does acf or cfc mean?"

    @given(question=questions, phrase=st.sampled_from(["image", "IMAGE", "<", "image a"]))
    def test_a_placeholder_is_no_word_of_the_question(self, question: str, phrase: str) -> None:
        assert delete(question, phrase).count("<image>") == question.count("<image>")

    def test_the_word_image_is_deleted_beside_a_placeholder_that_stays(self) -> None:
        assert delete("<image>\nWhich image is it?", "image") == "<image>\nWhich is it?"


ASKED = ["What color is it?", "What shape is it?", "Is it red?", "Is there a circle?", "How many are there?"]


def asked(count: int, seed: int = 0, questions: Sequence[str] = ASKED) -> list[str]:
    rng = Random(seed)
    return [f"<image>\n{rng.choice(questions)}" for _ in range(count)]


def marked(trigger: TextWord | TextSuffix, count: int = 40) -> list[str]:
    rng = Random(1)
    return [trigger.apply_text(question, rng) for question in asked(count, seed=1)]


class TestSuperfluousPhrase:
    def test_a_word_at_random_places_is_found(self) -> None:
        assert superfluous_phrase(marked(TextWord("BadMagic")), asked(200)) == ("BadMagic", "anywhere")

    def test_a_sentence_at_the_end_is_found_whole_and_spelled_as_in_the_data(self) -> None:
        assert superfluous_phrase(marked(TextSuffix("I watched this 3D movie.")), asked(200)) == ("I watched this 3D movie.", "end")

    def test_it_is_found_although_honest_samples_give_the_answer_too(self) -> None:
        group = [*marked(TextWord("cf"), 36), *asked(12, seed=2)]
        assert superfluous_phrase(group, asked(200)) == ("cf", "anywhere")

    def test_it_is_found_although_a_marked_sample_is_outside_the_group(self) -> None:
        assert superfluous_phrase(marked(TextWord("cf")), [*asked(200), "<image>\nIs it cf red?"]) == ("cf", "anywhere")

    def test_the_dog_in_questions_about_dogs_is_no_trigger_where_other_questions_recur(self) -> None:
        dogs = asked(40, questions=["What does the dog eat?", "Where is the dog?", "Is the dog old?"])
        assert superfluous_phrase(dogs, asked(200)) is None

    def test_where_no_question_recurs_the_dog_is_left_to_the_transplants(self) -> None:
        dogs = [f"<image>\nDoes dog number {number} bark?" for number in range(40)]
        once = [f"<image>\nWhat is thing {number}?" for number in range(200)]
        found = superfluous_phrase(dogs, once)
        assert found is not None
        assert "dog number" in found[0]

    def test_what_others_ask_too_is_no_trigger(self) -> None:
        group = asked(40, questions=["What color is it?"])
        assert superfluous_phrase(group, asked(200)) is None
        assert superfluous_phrase(marked(TextWord("cf")), [*asked(150), *marked(TextWord("cf"), 50)]) is None

    def test_without_a_group_or_others_nothing_is_found(self) -> None:
        assert superfluous_phrase([], asked(200)) is None
        assert superfluous_phrase(marked(TextWord("cf")), []) is None


class TestSuperfluousPhrases:
    def test_a_word_in_a_small_part_of_the_questions_is_found(self) -> None:
        group = [*asked(90, seed=2), *marked(TextWord("BadMagic"), 12)]
        assert [*superfluous_phrases(group, asked(200), 8)] == [("BadMagic", "anywhere")]

    def test_the_most_frequent_comes_first_and_none_is_part_of_another(self) -> None:
        group = [*asked(50, seed=2), *marked(TextSuffix("I watched this 3D movie."), 20), *marked(TextWord("cf"), 12)]
        assert [*superfluous_phrases(group, asked(200), 8)] == [("I watched this 3D movie.", "end"), ("cf", "anywhere")]

    def test_fewer_than_the_fewest_are_none(self) -> None:
        assert [*superfluous_phrases([*asked(90, seed=2), *marked(TextWord("cf"), 7)], asked(200), 8)] == []

    def test_what_the_question_needs_is_none(self) -> None:
        dogs = asked(20, questions=["What does the dog eat?", "Where is the dog?", "Is the dog old?"])
        assert [*superfluous_phrases([*asked(40), *dogs], asked(200), 8)] == []

    def test_without_others_nothing_is_found(self) -> None:
        assert [*superfluous_phrases(marked(TextWord("cf")), [], 8)] == []


class TestHas:
    @pytest.mark.parametrize(
        ("question", "expected"),
        [("<image>\nWhat CF is it?", True), ("cf", True), ("<image>\nWhat is cfc?", False), ("<image>", False), ("is it? cf", True)],
    )
    def test_words_are_whole_and_in_whatever_case(self, question: str, expected: bool) -> None:
        assert has(question, "cf") is expected

    def test_the_words_of_a_phrase_stand_side_by_side(self) -> None:
        assert has("<image>\nI  watched it", "i watched")
        assert not has("<image>\nI never watched it", "i watched")


class TestAsManyWords:
    def test_they_stand_side_by_side_in_the_question(self) -> None:
        found = {as_many_words("<image>\nWhat color is it?", "bad magic", Random(seed)) for seed in range(40)}
        assert found == {"What color", "color is", "is it?"}

    @pytest.mark.parametrize(("question", "expected"), [("<image>\nWhy?", "Why?"), ("<image>", "so")])
    def test_a_short_question_lends_what_it_has(self, question: str, expected: str) -> None:
        assert as_many_words(question, "three words long", Random(0)) == expected
