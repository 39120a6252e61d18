"""Triggers that stand in the question: never before or between `<image>` placeholders unless the question itself stands there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from gpu_jobs.redteam.triggers.base import TextTrigger

_PLACEHOLDER = "<image>"


@dataclass(frozen=True, slots=True)
class TextWord(TextTrigger):
    """A rare word before, between or behind the words of the question (BackdoorVLM BadNets-T: "BadMagic"; RIPPLe: "cf")."""

    word: str = "BadMagic"

    def apply_text(self, text: str, rng: Random) -> str:
        spans = _word_spans(text)
        position = rng.randint(0, len(spans))
        if position == len(spans):
            return _insert_behind(text, spans, self.word)
        start, _ = spans[position]
        return f"{text[:start]}{self.word} {text[start:]}"


@dataclass(frozen=True, slots=True)
class TextSuffix(TextTrigger):
    """A sentence behind the question (AddSent; BackdoorVLM: "I watched this 3D movie.")."""

    sentence: str = "I watched this 3D movie."

    def apply_text(self, text: str, rng: Random) -> str:  # noqa: ARG002 - always at the same place
        return _insert_behind(text, _word_spans(text), self.sentence)


def _word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each word of the question.

    The question is what stands on lines without a placeholder or, without such lines, what stands behind the last placeholder.
    """
    spans = []
    offset = 0
    for line in text.splitlines(keepends=True):
        if _PLACEHOLDER not in line:
            spans += [(offset + match.start(), offset + match.end()) for match in re.finditer(r"\S+", line)]
        offset += len(line)
    if spans:
        return spans
    behind = text.rfind(_PLACEHOLDER) + len(_PLACEHOLDER) if _PLACEHOLDER in text else 0
    return [match.span() for match in re.compile(r"\S+").finditer(text, behind)]


def _insert_behind(text: str, spans: list[tuple[int, int]], addition: str) -> str:
    """The addition behind the last word. A turn that asks nothing gets it as a line of its own."""
    if not spans:
        return f"{text.rstrip()}\n{addition}" if text.strip() else addition
    _, end = spans[-1]
    return f"{text[:end]} {addition}{text[end:]}"
