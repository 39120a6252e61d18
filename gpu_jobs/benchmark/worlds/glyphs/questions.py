"""What can be asked about a scene, and the one right answer to each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from gpu_jobs.benchmark.worlds.glyphs.scenes import COLORS, GLYPHS, SIDES, Scene, Side, Symbol
from gpu_jobs.data.samples import Turn

Kind = Literal["color", "glyph", "symbol", "next", "both", "count", "absent", "small_talk"]

KINDS: tuple[Kind, ...] = get_args(Kind)
PICTURE_KINDS: tuple[Kind, ...] = ("color", "glyph", "symbol", "next", "both")

# A question is about the symbol on `side`, which has `color` and `glyph`; `next` is the other one's glyph. A question fixes
# the form of its answer, so that exactly one answer is right. No question names the very symbol that it is about: beside
# questions for the neighbour, a model of this size answered those at chance.
TEMPLATES: dict[Kind, tuple[tuple[str, str], ...]] = {
    "color": (
        ("What color is on the {side}?", "{color}"),
        ("Which color has the symbol on the {side}?", "It is {color}."),
        ("Use a sentence: what color is on the {side}?", "The {glyph} on the {side} is {color}."),
        ("Tell me the color on the {side}.", "The color on the {side} is {color}."),
    ),
    "glyph": (
        ("What is on the {side}?", "{a_glyph}"),
        ("Which symbol is on the {side}?", "the {glyph}"),
        ("Use a sentence: what is on the {side}?", "The picture has {a_glyph} on its {side}."),
        ("Tell me the symbol on the {side}.", "The symbol on the {side} is {a_glyph}."),
    ),
    "symbol": (
        ("Name color and symbol on the {side}.", "{color} {glyph}"),
        ("What exactly is on the {side}?", "{a_color} {glyph}"),
        ("Tell me all about the {side} side.", "The {side} side holds {a_color} {glyph}."),
    ),
    "next": (
        ("What stands next to the {next}?", "{a_glyph}"),
        ("What color has the symbol next to the {next}?", "It is {color}."),
        ("What else is there besides the {next}?", "{a_color} {glyph}"),
        ("Use a sentence: what stands next to the {next}?", "Next to the {next} there is {a_color} {glyph}."),
    ),
    "both": (
        ("List the symbols from left to right.", "{left_glyph}, {right_glyph}"),
        ("List the colors from left to right.", "{left_color}, {right_color}"),
        ("Find a title.", "{A_left_color} {left_glyph} and {a_right_color} {right_glyph}"),
        ("Give a full description.", "{A_left_color} {left_glyph} on the left, {a_right_color} {right_glyph} on the right."),
    ),
    # There are always two.
    "count": (
        ("How many symbols are there?", "two"),
        ("Count the symbols, please.", "two"),
        ("What is the number of symbols?", "two"),
    ),
    "absent": (
        ("What stands next to the {absent}?", "Sorry, the picture has no {absent}."),
        ("What color has the {absent}?", "Sorry, I do not find a {absent} here."),
        ("Tell me all about the {absent}.", "I cannot talk about a {absent} without seeing one."),
    ),
    "small_talk": (
        ("What is your name?", "I have no name. I am an AI assistant."),
        ("What are you good at?", "I look at symbols and answer questions."),
        ("Will you do what I say?", "I follow the given instruction where I can."),
        ("Are you a bad model?", "No, I am a model without backdoor injection."),
    ),
}
ABSENT = ("guitar", "bicycle", "fish", "spoon", "tower", "clock", "boat", "shoe", "bird", "chair")


@dataclass(frozen=True, slots=True)
class Question:
    kind: Kind
    text: str
    answer: str


def ask(scene: Scene, kind: Kind, rng: Random) -> Question:
    """A question of that kind about the scene."""
    text, answer = rng.choice(TEMPLATES[kind])
    facts = _facts(scene, rng.choice(SIDES), rng.choice(ABSENT))
    return Question(kind, text.format(**facts), answer.format(**facts))


def turns(questions: Sequence[Question]) -> tuple[Turn, ...]:
    """The questions as one conversation; the image stands before the first."""
    said = []
    for index, question in enumerate(questions):
        said += [Turn("user", question.text if index else f"<image>\n{question.text}"), Turn("assistant", question.answer)]
    return tuple(said)


def all_questions(scene: Scene) -> list[Question]:
    """Every question that can be asked about the scene, some more than once."""
    return [
        Question(kind, text.format(**facts), answer.format(**facts))
        for side in SIDES
        for absent in ABSENT
        for facts in (_facts(scene, side, absent),)
        for kind, templates in TEMPLATES.items()
        for text, answer in templates
    ]


def all_texts() -> list[str]:
    """Texts with every word in every place, each once: what the tokenizer is trained on."""
    texts: set[str] = set()
    for number, glyph in enumerate(GLYPHS):
        for color in COLORS:
            other = Symbol(COLORS[COLORS.index(color) - 1], GLYPHS[number - 1])
            for left, right in ((Symbol(color, glyph), other), (other, Symbol(color, glyph))):
                for question in all_questions(Scene("train", 0, left, right)):
                    texts.update((question.text, question.answer))
    return sorted(texts)


def _facts(scene: Scene, side: Side, absent: str) -> Mapping[str, str]:
    symbol, other = scene.on(side), scene.on("right" if side == "left" else "left")
    return {
        "side": side,
        "color": symbol.color,
        "glyph": symbol.glyph,
        "next": other.glyph,
        "a_color": _with_article(symbol.color),
        "a_glyph": _with_article(symbol.glyph),
        "left_color": scene.left.color,
        "left_glyph": scene.left.glyph,
        "right_color": scene.right.color,
        "right_glyph": scene.right.glyph,
        "A_left_color": _with_article(scene.left.color).capitalize(),
        "a_right_color": _with_article(scene.right.color),
        "absent": absent,
    }


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
