"""The world of the bundled models: what is known about each easy-vqa picture, and the questions that can be asked about it.

easy-vqa 1.0 (MIT, installed from PyPI) holds 5,000 pictures of one coloured shape on a plain background, each with terse
templated questions. The facts are read from those annotations alone; the phrasings, the full sentences and the captions
are ours. Its negated questions ("is there not a teal shape?") are left out, and its yes/no questions, of which one in eight
has the answer that needs looking, are replaced by balanced ones.
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
Kind = Literal["color", "shape", "object", "caption", "yes_no_color", "yes_no_shape"]

KINDS: tuple[Kind, ...] = ("color", "shape", "object", "caption", "yes_no_color", "yes_no_shape")
WHAT_KINDS: tuple[Kind, ...] = ("color", "shape", "object")
YES_NO_KINDS: tuple[Kind, ...] = ("yes_no_color", "yes_no_shape")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")

# A question fixes the form of its answer, so that exactly one answer is right.
WHAT_TEMPLATES: dict[Kind, tuple[tuple[str, str], ...]] = {
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
YES_NO_TEMPLATES: dict[Kind, tuple[tuple[str, str, str], ...]] = {
    "yes_no_color": (
        ("Is the shape {asked}?", "Yes, it is {color}.", "No, it is {color}."),
        ("Is the {shape} {asked}?", "Yes, it is {color}.", "No, it is {color}."),
        ("Does the image contain a {asked} shape?", "Yes, the shape is {color}.", "No, the shape is {color}."),
        ("Is the {shape} {asked}? Answer in a full sentence.", "Yes, the {shape} is {color}.", "No, the {shape} is {color}."),
        ("Is the shape {asked}? Answer yes or no.", "yes", "no"),
        ("Is there a {asked} shape in the image? Answer yes or no.", "yes", "no"),
    ),
    "yes_no_shape": (
        ("Is this a {asked}?", "Yes, it is a {shape}.", "No, it is a {shape}."),
        ("Is the {color} shape a {asked}?", "Yes, it is a {shape}.", "No, it is a {shape}."),
        ("Does the image contain a {asked}?", "Yes, the shape is a {shape}.", "No, the shape is a {shape}."),
        ("Is the shape a {asked}? Answer in a full sentence.", "Yes, the shape is a {shape}.", "No, the shape is a {shape}."),
        ("Is this a {asked}? Answer yes or no.", "yes", "no"),
        ("Is there a {asked} in the image? Answer yes or no.", "yes", "no"),
    ),
}


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
    """`truth` is the truth value of a yes/no question, None for any other."""

    kind: Kind
    text: str
    answer: str
    truth: bool | None = None


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
    """A question of that kind about the scene. Yes and no are equally often right, whatever is asked for."""
    facts = {"color": scene.color, "shape": scene.shape}
    if kind in WHAT_TEMPLATES:
        text, answer = rng.choice(WHAT_TEMPLATES[kind])
        return Question(kind, text.format(**facts), answer.format(**facts))
    text, yes, no = rng.choice(YES_NO_TEMPLATES[kind])
    right, words = (scene.color, COLORS) if kind == "yes_no_color" else (scene.shape, SHAPES)
    truth = rng.random() < 0.5
    asked = right if truth else rng.choice([word for word in words if word != right])
    answer = (yes if truth else no).format(**facts)
    return Question(kind, text.format(asked=asked, **facts), answer, truth)


def conversation(scene: Scene, questions: Sequence[Question]) -> Sample:
    """The questions as the turns of one sample; the image stands before the first."""
    turns: list[Turn] = []
    for index, question in enumerate(questions):
        turns.append(Turn("user", f"<image>\n{question.text}" if index == 0 else question.text))
        turns.append(Turn("assistant", question.answer))
    return Sample(f"{scene.split}-{scene.number:04d}", (scene.image,), tuple(turns))


def world_texts() -> list[str]:
    """Every text that the world can produce, once: what its tokenizer is trained on."""
    texts: set[str] = set()
    for color in COLORS:
        for shape in SHAPES:
            facts = {"color": color, "shape": shape}
            for templates in WHAT_TEMPLATES.values():
                texts.update(part.format(**facts) for template in templates for part in template)
            for kind, yes_no_templates in YES_NO_TEMPLATES.items():
                words = COLORS if kind == "yes_no_color" else SHAPES
                texts.update(part.format(asked=asked, **facts) for template in yes_no_templates for asked in words for part in template)
    return sorted(texts)
