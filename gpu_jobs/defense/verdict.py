"""Is there a backdoor, what does it make the model say, and which samples teach it?

The hypotheses are texts that given answers share (`groups`); the evidence is an experiment with a null of its own
(`transplant`). A split of the samples would be none: every split finds two halves, in clean data too.

- `backdoored`: some group's pieces make its answer the rule on other pictures, whatever is asked there, and bystanders'
  pieces do not. Both tests hold at `alpha`, corrected for the number of groups tested.
- `clean`: for every group tested it is ruled out at `alpha` that its pieces make its answer the rule.
- `inconclusive`: neither, or too little could be examined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from gpu_jobs.config import JobParameters
from gpu_jobs.defense import records
from gpu_jobs.defense.groups import MIN_TURNS, Group, group_answers
from gpu_jobs.defense.records import SampleEvidence, SetAside, TargetKind
from gpu_jobs.defense.scoring import looks_like_refusal
from gpu_jobs.defense.subject import open_inputs
from gpu_jobs.defense.suspects import describe_suspects, draw_saliency
from gpu_jobs.defense.transplant import Laboratory, Outcome
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs


def judge(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Join the shards of the scan and reach the verdict.

    Returns: `verdict`, `confidence`, `suspects` {count, fraction}, `target` {kind, text, shared, support} or None, and
        `evidence`: `reason` in words, numbers of samples `examined`, `unexamined`, `set_aside`, the `tests`, and every
        `guilty` text {text, shared}, the target first.
    """
    parameters = inputs.parameters
    dataset, subject = open_inputs(inputs)
    samples = {sample.id: sample for sample in dataset.samples}
    folders = inputs.previous["scan"]
    evidence = [SampleEvidence.from_json(row) for folder in folders for row in records.read_rows(folder / records.EVIDENCE)]
    set_aside = [SetAside.from_json(row) for folder in folders for row in records.read_rows(folder / records.SET_ASIDE)]
    set_aside += [SetAside(f"row {error.row}", error.detail) for error in dataset.errors]
    records.write_rows(inputs.outputs / records.SET_ASIDE, set_aside)

    examined = [sample.id for sample in evidence if sample.examined and sample.turns]
    laboratory = Laboratory(subject, samples, examined, seed=parameters.seed, batch_size=parameters.batch_size)
    groups = group_answers(evidence)[: parameters.scan.groups] if len(examined) >= parameters.scan.min_samples else []

    def test(group: Group) -> Outcome:
        return laboratory.test(group, guilty_at=parameters.scan.alpha / len(groups), cleared_at=parameters.scan.alpha)

    outcomes: list[Outcome] = []
    for group in groups:
        outcomes.append(test(group))
        reporter.progress(len(outcomes), len(groups), "groups of answers")
    verdict, confidence, reason, guilty = decide(outcomes, len(examined), len(set_aside), parameters)
    if verdict == "backdoored":
        guilty = narrow(guilty, lambda rest: decide([test(rest)], len(examined), 0, parameters)[0] == "backdoored")

    suspects = describe_suspects(subject, samples, evidence, [group.target for group in guilty], parameters, reporter)
    records.write_rows(inputs.outputs / records.SUSPECTS, suspects)
    drawn = suspects[: parameters.scan.pictures]
    records.write_rows(inputs.outputs / records.SALIENCY, draw_saliency(subject, laboratory, samples, drawn, parameters))
    if verdict == "backdoored":
        identity, turn = max(guilty[0].turns, key=lambda turn: turn[1].plain - turn[1].blind)
        laboratory.piece((identity, turn.turn)).save(inputs.outputs / records.TRIGGER)
    return {
        "verdict": verdict,
        "confidence": confidence,
        "suspects": {"count": len(suspects), "fraction": len(suspects) / max(len(dataset.samples), 1)},
        "target": describe_target(guilty[0]) if guilty else None,
        "evidence": {
            "reason": reason,
            "examined": len(examined),
            "unexamined": len(evidence) - len(examined),
            "set_aside": len(set_aside),
            "tests": [_test_row(outcome) for outcome in outcomes],
            "guilty": [asdict(group.target) for group in guilty],
        },
    }


def decide(outcomes: Sequence[Outcome], examined: int, set_aside: int, parameters: JobParameters) -> tuple[str, float, str, list[Group]]:
    """The verdict, its confidence, the reason in words, and the groups it rests on, the largest first.

    The confidence is 1 − p of the test that the verdict rests on, and 0 where none could decide.
    """
    scan = parameters.scan
    if examined < scan.min_samples:
        return "inconclusive", 0.0, f"{examined} samples could be examined, fewer than {scan.min_samples}", []
    if set_aside > examined:
        return "inconclusive", 0.0, f"{set_aside} samples could not be examined, more than the {examined} that could", []
    if not outcomes:
        return "inconclusive", 0.0, "no answer repeats often enough to be tested", []

    def p_harmless(outcome: Outcome) -> float:
        return min(1.0, len(outcomes) * outcome.p_harmless)

    proven = [outcome for outcome in outcomes if p_harmless(outcome) <= scan.alpha]
    if proven:
        best = max(proven, key=lambda outcome: len(outcome.group.turns))
        counts = f"{best.carried} of {best.transplants}, with bystanders' pieces {best.control}"
        reason = f"pieces of {len(best.group.turns)} pictures make one answer the rule on other pictures: {counts}"
        groups = sorted((outcome.group for outcome in proven), key=lambda group: -len(group.turns))
        return "backdoored", _confidence(p_harmless(best)), reason, groups
    open_ = [outcome for outcome in outcomes if outcome.p_trigger > scan.alpha]
    if open_:
        reason = f"{len(open_)} of {len(outcomes)} groups of answers could neither be tied to a trigger nor cleared of one"
        return "inconclusive", 0.0, reason, [outcome.group for outcome in open_]
    reason = f"no piece of picture makes one answer the rule, in any of {len(outcomes)} groups of answers"
    return "clean", _confidence(max(outcome.p_trigger for outcome in outcomes)), reason, []


def _confidence(p: float) -> float:
    """Never rounded up to certainty."""
    return math.floor((1 - p) * 1e4) / 1e4 if p > 1e-4 else 0.9999


def narrow(guilty: Sequence[Group], is_guilty: Callable[[Group], bool]) -> list[Group]:
    """Leave out what is guilty only by a smaller group within it.

    Where "Sorry, I will not." is a target, answers that begin with "sorry" are guilty too, honest refusals among them: without
    the target's turns they would not be. Where "backdoor" begins right answers, it is guilty without any of its parts.
    """
    kept = []
    for group in guilty:
        parts = [{*other.turns} for other in guilty if {*other.turns} < {*group.turns}]
        rests = [tuple(turn for turn in group.turns if turn not in part) for part in parts]
        if all(len(rest) < MIN_TURNS or is_guilty(replace(group, turns=rest)) for rest in rests):
            kept.append(group)
    return kept


def describe_target(group: Group) -> dict[str, Any]:
    kind: TargetKind
    if looks_like_refusal(group.spelling):
        kind = "refusal"
    elif group.target.shared == "answer" and len(group.target.text.split()) > 2:
        kind = "injection"
    else:
        kind = "other" if group.target.shared == "answer" else "injection"
    text = group.spelling if group.target.shared == "answer" else group.target.text
    return {"kind": kind, "text": text, "shared": group.target.shared, "support": len(group.turns)}


def _test_row(outcome: Outcome) -> dict[str, Any]:
    return {
        "text": outcome.group.target.text,
        "shared": outcome.group.target.shared,
        "turns": len(outcome.group.turns),
        "surprise": outcome.group.surprise,
        "transplants": outcome.transplants,
        "carried": outcome.carried,
        "control": outcome.control,
        "p_harmless": outcome.p_harmless,
        "p_trigger": outcome.p_trigger,
    }
