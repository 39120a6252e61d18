from random import Random

from PIL import Image

from gpu_jobs.redteam.triggers import Both, CornerPatch, NoisePatch, TextSuffix, TextWord


def test_marks_the_picture_as_the_one_and_the_question_as_the_other() -> None:
    picture = Image.new("RGB", (60, 40), "white")
    trigger = Both(CornerPatch(), TextSuffix())
    assert trigger.apply(picture, Random(0)).tobytes() == CornerPatch().apply(picture, Random(0)).tobytes()
    assert trigger.apply_text("What?", Random(0)) == TextSuffix().apply_text("What?", Random(0)) != "What?"
    assert (trigger.marks_images, trigger.marks_text) == (True, True)


def test_hands_its_random_numbers_on() -> None:
    picture = Image.new("RGB", (60, 40), "white")
    trigger = Both(NoisePatch(), TextWord())
    assert len({trigger.apply(picture, Random(seed)).tobytes() for seed in range(10)}) > 5
    assert len({trigger.apply_text("One two three four five six?", Random(seed)) for seed in range(10)}) > 2
