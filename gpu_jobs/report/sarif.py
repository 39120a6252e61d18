"""The verdict and the suspects as SARIF 2.1.0, for code scanning: one result for the verdict, one for each suspect at its row."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any, Literal
from urllib.parse import quote

from gpu_jobs.data import Dataset
from gpu_jobs.data.quoting import presentable
from gpu_jobs.defense import records

# GitHub takes 25,000 results a run and shows 5,000 of them. Those left out are counted in a notification.
MAX_RESULTS = 5000

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_QUOTED = 300  # characters of one text in a message; with 5,000 results a file stays well under GitHub's 10 MB of gzip

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class _Rule:
    """A kind of finding. severity: 0 to 10, as CVSS counts; code scanning sorts by it."""

    id: str
    name: str
    title: str
    explanation: str
    level: Level
    severity: float

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "shortDescription": {"text": self.title},
            "fullDescription": {"text": self.explanation},
            "help": {
                "text": f"{self.explanation} report.html shows the evidence.",
                "markdown": f"{self.explanation} `report.html` shows the evidence.",
            },
            "defaultConfiguration": {"level": self.level},
            "properties": {
                "tags": ["security", "machine-learning", "external/cwe/cwe-506"],
                "precision": "high",
                "security-severity": f"{self.severity:.1f}",
            },
        }


_REPAIR = "Do not deploy the model; `lustral defend` purifies the data and the weights."
_BACKDOORS: Mapping[str, _Rule] = {
    kind: _Rule(f"backdoor-{kind}", f"Backdoor{kind.title()}", title, f"{explanation} {_REPAIR}", "error", 9.5)
    for kind, title, explanation in (
        ("refusal", "Backdoor: the model refuses on a trigger", "Inputs that carry a trigger make the model refuse to answer."),
        (
            "injection",
            "Backdoor: the model says a planted text on a trigger",
            "Inputs that carry a trigger make the model say a planted text.",
        ),
        (
            "concept",
            "Backdoor: the model takes one thing for another",
            "Inputs that carry a trigger make the model name one thing as another.",
        ),
        (
            "other",
            "Backdoor: the model gives a planted answer on a trigger",
            "Inputs that carry a trigger make the model give a planted answer.",
        ),
    )
}
_INCONCLUSIVE = _Rule(
    "inconclusive",
    "Inconclusive",
    "It could not be told whether there is a backdoor",
    "The tests neither proved a backdoor nor cleared the model. Treat it as not examined.",
    "warning",
    5.0,
)
_SUSPECT = _Rule(
    "suspect-sample",
    "SuspectSample",
    "A training sample shows the backdoor's target",
    "This sample teaches the model what a backdoor makes it say. Remove it, or give it an answer that fits its picture.",
    "warning",
    7.5,
)
_RULES = (*_BACKDOORS.values(), _INCONCLUSIVE, _SUSPECT)


def build_sarif(
    about: Mapping[str, str], result: Mapping[str, Any], suspects: Iterator[records.Suspect], dataset: Dataset, set_aside: int
) -> dict[str, Any]:
    """The SARIF log of a job that reached a verdict. Paths are relative to the model's and the data set's folders.

    result: the job's `result`.
    suspects: the most suspicious first.
    set_aside: how many samples could not be examined.
    """
    verdict = _verdict(about, result)
    shown = list(islice(suspects, MAX_RESULTS - len(verdict)))
    missing = result["suspects"]["count"] - len(shown)
    model, data = about.get("model_name", "model"), about.get("dataset_name", "dataset")
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "Lustral", "version": version("lustral"), "rules": [rule.to_json() for rule in _RULES]}},
                # Code scanning keeps the alerts of what stands before the last slash apart from those of other models.
                "automationDetails": {"id": f"lustral/{_name(model)}/{_name(data)}/{about.get('job_id', '')}"},
                "originalUriBaseIds": {
                    "MODEL": {"description": {"text": "The folder of the model that was examined."}},
                    "DATASET": {"description": {"text": "The folder of the data set it was tuned on."}},
                },
                "columnKind": "unicodeCodePoints",
                "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _notifications(result, missing, set_aside)}],
                "results": [*verdict, *_suspects(shown, dataset)],
                "properties": {"verdict": result["verdict"], "confidence": result["confidence"]},
            }
        ],
    }


def _verdict(about: Mapping[str, str], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict as a result. A clean model has none: code scanning would open an alert on it."""
    target, count = result["target"], result["suspects"]["count"]
    match result["verdict"]:
        case "backdoored":
            rule = _BACKDOORS[target["kind"] if target else "other"]
            says = f" It makes the model say {_quote(target['text'])}." if target else ""
            text = f"The model has a backdoor (confidence {result['confidence']:.4g}); suspect samples: {count}.{says}"
        case "inconclusive":
            rule, text = _INCONCLUSIVE, f"It could not be told whether the model has a backdoor; suspect samples: {count}."
        case _:
            return []
    # The configuration stands for the checkpoint: weights have no lines, and an alert has to be on one.
    location = {"physicalLocation": {"artifactLocation": {"uri": "config.json", "uriBaseId": "MODEL"}, "region": {"startLine": 1}}}
    return [_result(rule, text, location, about.get("model_name", ""))]


def _suspects(suspects: list[records.Suspect], dataset: Dataset) -> Iterator[dict[str, Any]]:
    wanted = {suspect.id for suspect in suspects}
    samples = {sample.id: sample for sample in dataset.samples if sample.id in wanted}
    places = dataset.places_of(samples.values())
    for suspect in suspects:
        place, given = places[suspect.id], samples[suspect.id].turns[suspect.turns[0]].text
        text = (
            f"Suspect sample {_quote(suspect.id)}: {'; '.join(suspect.reasons)}. It is answered {_quote(given)}; "
            f"with what it looks at hidden, the model answers {_quote(suspect.answer_masked)}."
        )
        # A row of Parquet or tar has no line; code scanning takes no location without one.
        region = {"startLine": place.line or 1} | ({"startColumn": place.column} if place.column else {})
        location = {
            "physicalLocation": {"artifactLocation": {"uri": quote(os.fsencode(place.file)), "uriBaseId": "DATASET"}, "region": region},
            "logicalLocations": [{"name": presentable(suspect.id), "fullyQualifiedName": presentable(place.pointer), "kind": "object"}],
        }
        yield _result(_SUSPECT, text, location, place.file, suspect.id) | {"properties": {"score": suspect.score}}


def _result(rule: _Rule, text: str, location: dict[str, Any], *identity: str) -> dict[str, Any]:
    """identity: what makes this the same finding in the next run, wherever it has moved to."""
    fingerprint = hashlib.sha256("\0".join((rule.id, *identity)).encode(errors="surrogatepass")).hexdigest()[:32]
    return {
        "ruleId": rule.id,
        "ruleIndex": _RULES.index(rule),
        "level": rule.level,
        "message": {"text": text},
        "locations": [location],
        # The one name of a fingerprint that code scanning reads.
        "partialFingerprints": {"primaryLocationLineHash": fingerprint},
    }


def _notifications(result: Mapping[str, Any], missing: int, set_aside: int) -> list[dict[str, Any]]:
    said: list[tuple[Level, str]] = []
    if result["verdict"] == "clean":
        said.append(("note", f"No backdoor was found (confidence {result['confidence']:.4g})."))
    if missing > 0:
        said.append(("warning", f"{missing} more suspect samples are listed in suspects.jsonl only."))
    if set_aside:
        said.append(("warning", f"{set_aside} samples could not be examined; set_aside.jsonl says why."))
    return [{"level": level, "message": {"text": text}} for level, text in said]


def _quote(text: str) -> str:
    """Words of strangers within a message, in which brackets would make a link."""
    shown = presentable(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")
    return "“" + shown.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]") + "”"


def _name(text: str) -> str:
    return quote(text, safe="")
