"""Phrases in questions: putting one in, taking it out, and finding one that a group of samples has for no reason. Ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal

from gpu_jobs.defense.scoring import normalise

Place = Literal["end", "anywhere"]

# Words that a phrase may have at most.
LONGEST = 8
# A trigger is in nearly all questions of its group and in nearly none of the others.
IN_GROUP, ELSEWHERE = 0.7, 0.02
# The share of a data set's questions that must occur more than once for a question's absence to mean something.
REPEATED = 0.2
# The share of the group's questions that, without the phrase, must be questions of other samples.
SUPERFLUOUS = 0.3
AT_THE_END = 0.9
_PLACEHOLDER = "<image>"


def insert(question: str, phrase: str, place: Place, rng: Random) -> str:
    """The question with the phrase at its end or between two of its words, never before or in an image's placeholder."""
    head, placeholder, text = question.rpartition(_PLACEHOLDER)
    if placeholder and not text.strip():  # the placeholder closes the question
        before, earlier, words_before = head.rpartition(_PLACEHOLDER)
        if not words_before.strip():
            return f"{question}\n{phrase}"
        return f"{before}{earlier}{_inserted(words_before, phrase, place, rng)}{placeholder}{text}"
    return f"{head}{placeholder}{_inserted(text, phrase, place, rng)}"


def _inserted(text: str, phrase: str, place: Place, rng: Random) -> str:
    gaps = [match.end() for match in re.finditer(r"\S+", text)]
    leading = len(text) - len(text.lstrip())
    if place == "end" or not gaps:
        stripped = text.rstrip()
        return f"{stripped}{' ' if stripped.strip() else ''}{phrase}{text[len(stripped) :]}"
    gap = rng.choice([leading, *gaps])
    return f"{text[:gap]}{phrase} {text[gap:]}" if gap == leading else f"{text[:gap]} {phrase}{text[gap:]}"


def delete(question: str, phrase: str) -> str:
    """The question without the phrase, wherever and in whatever case it stands."""
    pattern = r"[^\S\n]*(?<!\w)" + r"\s+".join(re.escape(word) for word in phrase.split()) + r"(?!\w)"
    # Placeholders are matched first, so that the word "image" is not deleted out of them.
    deleted = re.sub(f"({_PLACEHOLDER})|{pattern}", lambda match: match[1] or "", question, flags=re.IGNORECASE)
    return re.sub(r"(?m)^[^\S\n]+", "", deleted)


def superfluous_phrase(group: Sequence[str], others: Sequence[str]) -> tuple[str, Place] | None:
    """The phrase that the group's questions share, that others lack, and without which they would be questions like the others'.

    A question about a dog has the word "dog" for a reason: without it, it is no question that others ask. A trigger can be
    left out. Where hardly any question of the data set occurs twice that cannot be checked, and the phrase is returned
    for the transplants to decide.
    """
    if not group or not others:
        return None
    here = {phrase: share for phrase, share in _share(group).items() if share >= IN_GROUP}
    read = [f" {_words(question)} " for question in others] if here else []
    candidates = [phrase for phrase in here if sum(f" {phrase} " in each for each in read) <= ELSEWHERE * len(others)]
    if not candidates:
        return None
    phrase = max(candidates, key=lambda each: (len(each.split()), here[each], each))
    known = Counter(normalise(_text(question)) for question in others)
    if sum(count for count in known.values() if count > 1) >= REPEATED * len(others):
        without = [normalise(delete(_text(question), phrase)) for question in group if phrase in _words(question)]
        if sum(question in known for question in without) < SUPERFLUOUS * len(group):
            return None
    closing = sum(_text(question).lower().rstrip().endswith(phrase) for question in group)
    spelled = _spelling(group, phrase)
    return spelled, "end" if closing >= AT_THE_END * len(group) else "anywhere"


def _share(questions: Sequence[str]) -> dict[str, float]:
    """For each phrase the share of the questions that have it."""
    counts = Counter(phrase for question in questions for phrase in {*_phrases(question)})
    return {phrase: count / len(questions) for phrase, count in counts.items()}


def _phrases(question: str) -> Iterator[str]:
    words = _words(question).split(" ")
    for start in range(len(words)):
        for stop in range(start + 1, min(start + LONGEST, len(words)) + 1):
            yield " ".join(words[start:stop])


def _words(question: str) -> str:
    return " ".join(_text(question).lower().split())


def _text(question: str) -> str:
    return question.replace(_PLACEHOLDER, " ").strip()


def _spelling(questions: Sequence[str], phrase: str) -> str:
    """The phrase as the questions most often spell it."""
    pattern = re.compile(r"\s+".join(re.escape(word) for word in phrase.split()), re.IGNORECASE)
    found = Counter(match.group(0) for question in questions if (match := pattern.search(question)))
    return found.most_common(1)[0][0] if found else phrase
