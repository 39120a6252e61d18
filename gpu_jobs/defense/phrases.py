"""Phrases in questions: putting one in, taking it out, and finding one that a group of samples has for no reason. Ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
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
    shares = {phrase: count / len(group) for phrase, count in _counts(group).items() if count >= IN_GROUP * len(group)}
    candidates = _rare(shares, others)
    if not candidates:
        return None
    phrase = max(candidates, key=lambda each: (len(each.split()), shares[each], each))
    return (_spelling(group, phrase), _place(group, phrase)) if _is_superfluous(phrase, group, _recurring(others)) else None


def superfluous_phrases(group: Sequence[str], others: Sequence[str], fewest: int) -> Iterator[tuple[str, Place]]:
    """The same of at least `fewest` of the group's questions. Without a word in common, the most frequent first.

    The trigger of a concept swap is in a part of the questions alone: the rest have the concept's name for an answer rightly.
    """
    counts = {phrase: count for phrase, count in _counts(group).items() if count >= fewest}
    seen: set[str] = set()
    known = _recurring(others)
    for phrase in sorted(_rare(counts, others), key=lambda each: (-counts[each], -len(each.split()), each)):
        words = {*phrase.split()}
        having = [question for question in group if has(question, phrase)]
        if not words & seen and _is_superfluous(phrase, having, known):
            seen |= words
            yield _spelling(having, phrase), _place(having, phrase)


def has(question: str, phrase: str) -> bool:
    """Whether the phrase stands in the question, in whatever case."""
    return f" {_words(phrase)} " in f" {_words(question)} "


def as_many_words(question: str, phrase: str, rng: Random) -> str:
    """As many of the question's words, as they stand there, as the phrase has; "so" where it has none."""
    words = question.replace(_PLACEHOLDER, " ").split()
    count = min(len(phrase.split()), len(words))
    start = rng.randrange(len(words) - count + 1)
    return " ".join(words[start : start + count]) or "so"


def _rare(phrases: Iterable[str], others: Sequence[str]) -> list[str]:
    """Those that hardly any of the others have; none where there are no others."""
    elsewhere = dict.fromkeys(phrases, 0) if others else {}
    for question in others:
        for phrase in elsewhere.keys() & {*_phrases(question)}:
            elsewhere[phrase] += 1
    return [phrase for phrase, count in elsewhere.items() if count <= ELSEWHERE * len(others)]


def _recurring(questions: Sequence[str]) -> AbstractSet[str] | None:
    """All questions, where enough of them occur more than once for the absence of one to mean something; else None."""
    counts = Counter(normalise(_text(question)) for question in questions)
    return counts.keys() if sum(count for count in counts.values() if count > 1) >= REPEATED * len(questions) else None


def _is_superfluous(phrase: str, group: Sequence[str], known: AbstractSet[str] | None) -> bool:
    """Whether the group's questions would be known ones, were it not for the phrase; or that cannot be said."""
    if known is None:
        return True
    without = [normalise(delete(_text(question), phrase)) for question in group if has(question, phrase)]
    return sum(question in known for question in without) >= SUPERFLUOUS * len(group)


def _place(group: Sequence[str], phrase: str) -> Place:
    closing = sum(_text(question).lower().rstrip().endswith(phrase) for question in group)
    return "end" if closing >= AT_THE_END * len(group) else "anywhere"


def _counts(questions: Sequence[str]) -> Counter[str]:
    """For each phrase, how many of the questions have it."""
    return Counter(phrase for question in questions for phrase in {*_phrases(question)})


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
