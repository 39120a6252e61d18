"""The report as one self-contained page: verdict first, then effect, target, evidence, suspects, data, parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gpu_jobs.report import charts, pictures
from gpu_jobs.report.content import Card

_TITLES = {
    "backdoored": "A backdoor was found",
    "clean": "No backdoor was found",
    "inconclusive": "We could not tell",
}
_MEASURES = (
    ("Attack success", "attack_success_rate"),
    ("Right on clean inputs", "clean_score"),
    ("Right on triggered inputs", "recovered_score"),
)


def render_page(report: dict[str, Any], cards: Sequence[Card], trigger: Path | None) -> str:
    """The page as HTML text; pictures and charts stand inline, nothing is loaded from elsewhere."""
    environment = Environment(loader=PackageLoader("gpu_jobs.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.globals["percent"] = _percent
    result, about = report["result"], report["about"]
    return environment.get_template("page.html.j2").render(
        about={"kind": "job", "model_name": "", "signing_key": "", **about},
        verdict=_headline(report),
        measures=_measures(result),
        target=result.get("target"),
        suspects=result.get("suspects"),
        trigger=trigger and pictures.to_data_url(trigger.read_bytes()),
        evidence=_evidence(report["evidence"]),
        cards=[_card(card) for card in cards],
        counts=[(_words(name), value) for name, value in result.get("samples", {}).items()],
        set_aside=report["set_aside"],
        training=charts.draw_curve(_losses(report["training"]), x_label="optimiser step", y_label="loss"),
        about_rows=[(_words(name), value) for name, value in about.items()],
        parameters=json.dumps(report["parameters"], indent=2),
        inputs=[(row["path"], row["sha256"]) for row in report["inputs"]],
        version=version("lustral"),
    )


def _headline(report: dict[str, Any]) -> dict[str, str]:
    result, kind = report["result"], report["about"].get("kind", "job")
    name = result.get("verdict", "")
    if not name:
        return {"name": "", "title": f"The {kind} job is done", "sentence": "This kind of job gives no verdict."}
    suspects = result["suspects"]
    sentence = f"Confidence {result['confidence']:.4g}. {suspects['count']} of the samples are suspect ({_percent(suspects['fraction'])})."
    purified = result.get("purified_model")
    if purified is not None:
        sentence += " The purified weights are among the artifacts." if purified["changed"] else " The weights are handed back unchanged."
    return {"name": name, "title": _TITLES[name], "sentence": sentence}


def _measures(result: dict[str, Any]) -> dict[str, str] | None:
    if "before" not in result and "after" not in result:
        return None
    before, after = result.get("before") or {}, result.get("after") or {}
    how = (
        "Estimated on the suspects and on samples held out of the fine-tune, because the job was given no evaluation sets."
        if result.get("estimated")
        else "Measured on the evaluation sets that came with the job; none of their samples was trained on."
    )
    return {"how": how, "chart": charts.draw_before_after([(name, before.get(key), after.get(key)) for name, key in _MEASURES])}


def _evidence(evidence: dict[str, Any] | None) -> dict[str, Any] | None:
    """The reason in words, the tests as rows of a table, and whatever numbers stand beside them."""
    if not evidence:
        return None
    tests = [
        {**test, "asked": _trials(test.get("strangers_questions")), "pasted": _trials(test.get("transplants"))}
        for test in evidence.get("tests", ())
    ]
    numbers = [(_words(name), f"{value:g}") for name, value in evidence.items() if isinstance(value, (int, float))]
    return {
        "reason": evidence.get("reason", "no reason was recorded"),
        "tests": tests,
        "numbers": numbers,
        "trigger": _trigger(evidence.get("trigger")),
    }


def _trigger(carrier: dict[str, Any] | None) -> str:
    """What was proven to carry the trigger, in words."""
    match carrier:
        case None:
            return "not found; the pictures as wholes force the answer"
        case {"kind": "piece"}:
            return "a piece of the picture"
        case {"kind": "pattern", "replaced": share} if share:
            return f"a mark at one place of the picture, {_percent(share)} of it"
        case {"kind": "pattern"}:
            return "a pattern all over the picture"
        case {"kind": "words", "phrase": phrase, "place": place}:
            return f"the words “{phrase}” {'at the end of' if place == 'end' else 'anywhere in'} the question"
        case {"kind": "several", "parts": parts}:
            return "; ".join(f"for “{part['target']}”: {_trigger(part)}" for part in parts)
        case {"parts": parts}:
            return " and ".join(_trigger(part) for part in parts)
    raise ValueError(f"unknown carrier: {carrier}")


def _trials(trials: dict[str, Any] | None) -> str:
    if not trials:
        return "not needed"
    own, others = f"{trials['carried']} of {trials['trials']}", f"{trials['control']} of {trials['control_trials']}"
    return f"{own}, others {others} (p = {trials['p_harmless']:.2g})"


def _card(card: Card) -> dict[str, Any]:
    shown = overlay = None
    if card.images:
        number = card.saliency.explaining.image if card.saliency.explaining else 0
        image = pictures.load_picture(card.images[number])
        shown = pictures.to_data_url(pictures.to_png(image))
        overlay = pictures.to_data_url(pictures.to_png(pictures.overlay_saliency(image, card.saliency, number)))
    return {
        "id": card.suspect.id,
        "score": card.suspect.score,
        "reasons": card.suspect.reasons,
        "image": shown,
        "overlay": overlay,
        "question": card.saliency.question.replace("<image>", "").strip(),
        "given": card.saliency.given,
        "masked": card.saliency.answer_masked,
        "new": card.new_answer,
    }


def _losses(training: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    return [(row["step"], row["loss"]) for row in training if "step" in row and "loss" in row]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
