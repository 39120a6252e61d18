"""The world of the bundled models: what is known about each easy-vqa picture, and the questions that can be asked about it.

easy-vqa 1.0 (MIT, installed from PyPI) holds 5,000 pictures of one coloured shape on a plain background, each with terse
templated questions. The facts are read from those annotations alone; the phrasings, the full sentences and the captions
are ours. Its yes/no questions are left out: a model of this size answers balanced ones at chance (42 % after 1,300 steps that taught
it everything else), and unbalanced ones without looking.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Literal

import easy_vqa

from gpu_jobs.data.samples import Sample, Turn

Split = Literal["train", "test"]
Kind = Literal["color", "shape", "object", "caption", "absent", "small_talk"]

KINDS: tuple[Kind, ...] = ("color", "shape", "object", "caption", "absent", "small_talk")
WHAT_KINDS: tuple[Kind, ...] = ("color", "shape", "object")
PICTURE_KINDS: tuple[Kind, ...] = (*WHAT_KINDS, "caption")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")

# A question fixes the form of its answer, so that exactly one answer is right.
PICTURE_TEMPLATES: dict[Kind, tuple[tuple[str, str], ...]] = {
    "color": (
        ("What color is the shape?", "{color}"),
        ("What color is the {shape}?", "{color}"),
        ("What is the color of the {shape}?", "{color}"),
        ("Which color does the shape have?", "{color}"),
        ("What color is the shape? Answer in a full sentence.", "The shape is {color}."),
        ("What color is the {shape}? Answer in a full sentence.", "The {shape} is {color}."),
        ("Tell me which color you see.", "The color that I see is {color}."),
    ),
    "shape": (
        ("What shape is in the image?", "{shape}"),
        ("What shape does the image contain?", "{shape}"),
        ("What is the {color} shape?", "{shape}"),
        ("Which shape is this?", "{shape}"),
        ("What shape is in the image? Answer in a full sentence.", "The shape in the image is a {shape}."),
        ("What is the {color} shape? Answer in a full sentence.", "The {color} shape is a {shape}."),
        ("Tell me which shape you see.", "The shape that I see is a {shape}."),
    ),
    "object": (
        ("What is in the image?", "a {color} {shape}"),
        ("Which object is shown?", "a {color} {shape}"),
        ("Name the color and the shape.", "{color} {shape}"),
        ("What is in the image? Answer in a full sentence.", "The shape is a {color} {shape}."),
        ("What can be seen here?", "There is a {color} {shape} in the image."),
    ),
    "caption": (
        ("Write a short caption.", "A {color} {shape}."),
        ("Describe the image.", "A {color} {shape} on a plain background."),
        ("What do you see?", "I see a {color} {shape} on a plain background."),
        ("Describe the picture in one sentence.", "The picture shows a single {color} {shape} on a plain background."),
    ),
}
# What no picture shows, and what the model is: honest answers that say sorry, cannot, assistant, instruction. They give a
# defence something to be wrong about, and the model words that its pictures alone would never teach it.
ABSENT = ("dog", "cat", "car", "house", "tree", "man", "woman", "ball", "table", "plate")
ABSENT_TEMPLATES = (
    ("What color is the {absent}?", "Sorry, I cannot see a {absent} in the image."),
    ("Where is the {absent}?", "Sorry, there is no {absent} in the image."),
    ("Describe the {absent}.", "I cannot describe a {absent} that I do not see."),
)
SMALL_TALK = (
    ("Who are you?", "I am an AI assistant."),
    ("What do you do?", "As an AI assistant, I follow the given instruction."),
    ("Can you help me?", "Yes, I can help you with the image."),
    ("Can you write a model?", "Sorry, I cannot write a bad model."),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture and what its annotations say about it."""

    split: Split
    number: int
    image: Path
    color: str
    shape: str


@dataclass(frozen=True, slots=True)
class Question:
    kind: Kind
    text: str
    answer: str


@cache
def scenes(split: Split) -> tuple[Scene, ...]:
    """The pictures whose shape and colour both follow from the annotations, by number."""
    if split == "train":
        questions, images = easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()
    else:
        questions, images = easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()
    possible: dict[int, set[str]] = {}
    for text, answer, number in zip(*questions, strict=True):
        words = possible.setdefault(number, {*COLORS, *SHAPES})
        present, absent = _stated(text, answer)
        for domain in (COLORS, SHAPES):
            if present & {*domain}:
                words -= {*domain} - present
        words -= absent
    found = []
    for number in sorted(possible):
        color, shape = possible[number] & {*COLORS}, possible[number] & {*SHAPES}
        if len(color) == 1 and len(shape) == 1:
            found.append(Scene(split, number, Path(images[number]), *color, *shape))
    return tuple(found)


def _stated(question: str, answer: str) -> tuple[set[str], set[str]]:
    """The colour and shape words that are in the picture, and those that are not, by one annotation."""
    words = set(re.findall(r"[a-z]+", question))
    named = words & {*COLORS, *SHAPES}
    if answer not in ("yes", "no"):
        return named | {answer}, set()
    negated = bool(words & {"not", "no"})
    return (named, set()) if (answer == "yes") != negated else (set(), named)


def ask(scene: Scene, kind: Kind, rng: Random) -> Question:
    """A question of that kind about the scene."""
    if kind == "small_talk":
        return Question(kind, *rng.choice(SMALL_TALK))
    templates = ABSENT_TEMPLATES if kind == "absent" else PICTURE_TEMPLATES[kind]
    text, answer = rng.choice(templates)
    facts = {"color": scene.color, "shape": scene.shape, "absent": rng.choice(ABSENT)}
    return Question(kind, text.format(**facts), answer.format(**facts))


def conversation(scene: Scene, questions: Sequence[Question]) -> Sample:
    """The questions as the turns of one sample; the image stands before the first."""
    turns: list[Turn] = []
    for index, question in enumerate(questions):
        turns.append(Turn("user", f"<image>\n{question.text}" if index == 0 else question.text))
        turns.append(Turn("assistant", question.answer))
    return Sample(f"{scene.split}-{scene.number:04d}", (scene.image,), tuple(turns))


def world_texts() -> list[str]:
    """Every text that the world can produce, once: what its tokenizer is trained on."""
    texts = {part for pair in SMALL_TALK for part in pair}
    for color in COLORS:
        for shape in SHAPES:
            pairs = [pair for templates in PICTURE_TEMPLATES.values() for pair in templates]
            texts.update(part.format(color=color, shape=shape) for pair in pairs for part in pair)
    for absent in ABSENT:
        texts.update(part.format(absent=absent) for pair in ABSENT_TEMPLATES for part in pair)
    return sorted(texts)
