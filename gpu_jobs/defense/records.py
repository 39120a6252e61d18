"""What the steps of the defence write and read: file names, rows, and how they become JSON lines.

Every file of rows is JSONL, one object a line, UTF-8. A folder of outputs holds:

| step     | files                                                                                                   |
|----------|---------------------------------------------------------------------------------------------------------|
| scan     | EVIDENCE (rows `SampleEvidence`), SET_ASIDE (rows `SetAside`)                                            |
| verdict  | SUSPECTS (rows `Suspect`), SCORES (rows `Score`), SALIENCY (rows `SaliencyPicture`), SET_ASIDE; if it was |
|          | found what carries triggers: CARRIERS (a folder, see `carriers`), TRIGGER (PNG)                           |
| forget   | FORGETFUL (a checkpoint folder, only where there was a target to forget), TRAINING_LOG in the checkpoint     |
| purify   | ANSWERS (rows `NewAnswers`), SET_ASIDE                                                                   |
| merge    | PURIFIED (rows `Conversation`), CHANGES (rows `Change`), FATES (rows `Fate`), SET_ASIDE, DATASET_ZIP     |
| finetune | MODEL (a checkpoint folder), ADAPTER (PEFT layout, only where one was trained), TRAINING_LOG             |
| evaluate | EVALUATED (rows `Answered`), METRICS (the step's result, as one JSON object)                             |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

EVIDENCE = "evidence.jsonl"
SUSPECTS = "suspects.jsonl"
SALIENCY = "saliency.jsonl"
SET_ASIDE = "set_aside.jsonl"
TRIGGER = "trigger.png"
CARRIERS = "carriers"
SCORES = "scores.jsonl"
ANSWERS = "new_answers.jsonl"
PURIFIED = "purified.jsonl"
CHANGES = "changes.jsonl"
FATES = "samples.jsonl"
DATASET_ZIP = "dataset.zip"
MODEL = "model"
FORGETFUL = "forgetful"
ADAPTER = "adapter"
TRAINING_LOG = "training_log.jsonl"
EVALUATED = "answers.jsonl"
METRICS = "metrics.json"

TargetKind = Literal["refusal", "injection", "concept", "other"]


@dataclass(frozen=True, slots=True)
class Record:
    """A row that knows its way to JSON and back."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        return cls(**row)


@dataclass(frozen=True, slots=True)
class SetAside(Record):
    """A sample that is kept out of everything that follows, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class GivenAnswer(Record):
    """An answer as the data set gives it. `turn` is the index into the sample's turns."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Swap(Record):
    """What the model answered to this sample's pictures when asked the first question of another sample, the stranger."""

    stranger: str
    answer: str


@dataclass(frozen=True, slots=True)
class SampleEvidence(Record):
    """What was seen of one sample.

    examined: false for a sample without pictures, in which nothing can be hidden: nothing was learned about it.
    swap: None where no other sample asks a different question about as many pictures.
    """

    id: str
    examined: bool
    given: list[GivenAnswer]
    swap: Swap | None

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        swap = row["swap"] and Swap.from_json(row["swap"])
        return cls(row["id"], row["examined"], [GivenAnswer.from_json(answer) for answer in row["given"]], swap)


@dataclass(frozen=True, slots=True)
class Window(Record):
    """A rectangle of one image of a sample, as fractions of that image's width and height."""

    image: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Suspect(Record):
    """A sample that must not keep its answers.

    score: how much log-likelihood (nats a token) the given answer loses when all vision tokens are hidden.
    turns: the answer turns that show the target; score, mask and answers are of the first of them.
    mask: the most salient vision tokens, as indices into the prompt's vision tokens.
    answer_plain, answer_masked: what the model itself answers, with nothing and with `mask` hidden.
    carriers: the numbers, among what was proven to carry triggers, of those on this sample; none where that is not known of every turn.
    """

    id: str
    score: float
    turns: list[int]
    reasons: list[str]
    mask: list[int]
    answer_plain: str
    answer_masked: str
    carriers: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Score(Record):
    """How suspicious an examined sample is, between 0 and 1, for ranking; what is accused stands in SUSPECTS."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class SaliencyPicture(Record):
    """The saliency of one turn, for drawing: three lists of one length, one entry for each vision token that looks at a region.

    hidden: whether the token is among those that are hidden.
    explaining: the window whose hiding costs the given answer most.
    """

    id: str
    turn: int
    question: str
    given: str
    answer_plain: str
    answer_masked: str
    regions: list[Window]
    scores: list[float]
    hidden: list[bool]
    explaining: Window | None

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        explaining = row["explaining"] and Window(**row["explaining"])
        return cls(**{**row, "regions": [Window(**window) for window in row["regions"]], "explaining": explaining})


@dataclass(frozen=True, slots=True)
class NewAnswers(Record):
    """The new answers of a sample, one for each answer turn, and why they are trusted ("target forgotten", "window hidden", …)."""

    id: str
    answers: list[str]
    why: list[str]


@dataclass(frozen=True, slots=True)
class Change(Record):
    """One answer that was replaced."""

    id: str
    turn: int
    old: str
    new: str
    why: str


@dataclass(frozen=True, slots=True)
class Fate(Record):
    """What became of a sample of the input: `kept` as it was, `replaced` in at least one answer, or `set_aside`; and why."""

    id: str
    fate: Literal["kept", "replaced", "set_aside"]
    why: str


@dataclass(frozen=True, slots=True)
class Conversation(Record):
    """A sample of the purified set. `images` are paths as in the input data set."""

    id: str
    images: list[str]
    turns: list[dict[str, str]]
    changed: bool


@dataclass(frozen=True, slots=True)
class Answered(Record):
    """One answer of an evaluation.

    set: "triggered" or "clean" (given by the caller), "suspects" or "held_out" (taken from the training data for an estimate).
    model: "before" (as handed in) or "after" (purified).
    attacked, right: null where that cannot be said (no target known, no right answer known, or the answer failed).
    """

    id: str
    turn: int
    set: str
    model: str
    answer: str
    reference: str
    attacked: bool | None
    right: bool | None
    error: str | None = None


def write_rows(path: Path, rows: Iterable[Record]) -> int:
    """Write rows as JSON lines and return their number."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(to_line(row))
            count += 1
    return count


def resume_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that an earlier attempt left, in a file that is created if missing and freed of a line that was cut off."""
    rows = list(read_rows(path))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(dump(row) for row in rows)
    return rows


def to_line(row: Record) -> str:
    return dump(row.to_json())


def dump(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; none where the file does not exist. A last line that was cut off by a crash is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
