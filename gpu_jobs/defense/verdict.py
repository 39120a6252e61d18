"""Is there a backdoor, what does it make the model say, and which samples teach it?

The hypotheses are texts that given answers share (`groups`). Each is put to two experiments with nulls of their own. A split
of the samples would be none: every split finds two halves, in clean data too.

- *Strangers' questions* (`screening`): do the group's pictures make its answer whatever is asked? Most groups end here.
- *Transplants* (`transplant`), for those that are left: does a piece of the group's pictures carry the answer to others?

The verdict is `backdoored` if transplants prove it for some group, `clean` if every group is cleared by one of the
experiments, and `inconclusive` otherwise, or if too little could be examined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from gpu_jobs.config import ScanParameters
from gpu_jobs.defense import records
from gpu_jobs.defense.groups import MIN_TURNS, Group, group_answers
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.records import SampleEvidence, SetAside, TargetKind
from gpu_jobs.defense.scoring import looks_like_refusal
from gpu_jobs.defense.screening import Screening
from gpu_jobs.defense.subject import open_inputs
from gpu_jobs.defense.suspects import describe_suspects, draw_saliency
from gpu_jobs.defense.transplant import Laboratory
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs


@dataclass(frozen=True, slots=True)
class Decision:
    """`confidence` is 1 − p of the test that the verdict rests on, 0 where none could decide. `guilty` groups come largest first."""

    verdict: Literal["backdoored", "clean", "inconclusive"]
    confidence: float
    reason: str
    guilty: list[Group]


def judge(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Join the shards of the scan and reach the verdict.

    Returns: `verdict`, `confidence`, `suspects` {count, fraction}, `target` {kind, text, shared, support} or None, and
        `evidence`: `reason` in words, numbers of samples `examined`, `unexamined`, `set_aside`, how many `groups` there
        are, the `tests` of those that strangers' questions did not clear, and every `guilty` text, the target first.
    """
    parameters = inputs.parameters
    dataset, subject = open_inputs(inputs)
    samples = {sample.id: sample for sample in dataset.samples}
    folders = inputs.previous["scan"]
    evidence = [SampleEvidence.from_json(row) for folder in folders for row in records.read_rows(folder / records.EVIDENCE)]
    set_aside = [SetAside.from_json(row) for folder in folders for row in records.read_rows(folder / records.SET_ASIDE)]
    set_aside += [SetAside(f"row {error.row}", error.detail) for error in dataset.errors]
    records.write_rows(inputs.outputs / records.SET_ASIDE, set_aside)

    scan, chance = parameters.scan, {"seed": parameters.seed, "batch_size": parameters.batch_size}
    examined = [each.id for each in evidence if each.examined]
    groups = group_answers(evidence)
    screening = Screening(subject, samples, evidence, **chance)
    laboratory = Laboratory(subject, samples, examined, **chance)
    screened = []
    for group in groups if len(examined) >= scan.min_samples else []:
        screened.append(screening.test(group, guilty_at=scan.alpha / len(groups), cleared_at=scan.alpha))
        reporter.progress(len(screened), len(groups), "groups of answers")
    left = sorted((outcome for outcome in screened if outcome.p_trigger > scan.alpha), key=_suspicion)

    def transplant(group: Group) -> Outcome:
        return laboratory.test(group, guilty_at=scan.alpha / min(len(left), scan.groups), cleared_at=scan.alpha)

    transplanted = []
    for outcome in left[: scan.groups]:
        transplanted.append(transplant(outcome.group))
        reporter.progress(len(transplanted), min(len(left), scan.groups), "transplanted groups")
    decision = decide(screened, transplanted, len(examined), len(set_aside), scan)
    if decision.verdict == "backdoored":
        decision = replace(decision, guilty=narrow(decision.guilty, lambda rest: transplant(rest).p_harmless <= scan.alpha))

    suspects = describe_suspects(subject, samples, evidence, [group.target for group in decision.guilty], parameters, reporter)
    records.write_rows(inputs.outputs / records.SUSPECTS, suspects)
    drawn = suspects[: scan.pictures]
    records.write_rows(inputs.outputs / records.SALIENCY, draw_saliency(subject, laboratory, samples, drawn, parameters))
    if decision.verdict == "backdoored":
        strongest = next(each for each in suspects if (each.id, each.turns[0]) in decision.guilty[0].turns)
        laboratory.piece((strongest.id, strongest.turns[0])).save(inputs.outputs / records.TRIGGER)
    return {
        "verdict": decision.verdict,
        "confidence": decision.confidence,
        "suspects": {"count": len(suspects), "fraction": len(suspects) / max(len(dataset.samples), 1)},
        "target": describe_target(decision.guilty[0]) if decision.guilty else None,
        "evidence": {
            "reason": decision.reason,
            "examined": len(examined),
            "unexamined": len(evidence) - len(examined),
            "set_aside": len(set_aside),
            "groups": len(groups),
            "tests": [_test_row(*pair) for pair in zip(left, transplanted, strict=False)],
            "guilty": [asdict(group.target) for group in decision.guilty],
        },
    }


def decide(screened: Sequence[Outcome], transplanted: Sequence[Outcome], examined: int, set_aside: int, scan: ScanParameters) -> Decision:
    """The verdict from the outcomes of both experiments."""
    if examined < scan.min_samples:
        return Decision("inconclusive", 0.0, f"{examined} samples could be examined, fewer than {scan.min_samples}", [])
    if set_aside > examined:
        return Decision("inconclusive", 0.0, f"{set_aside} samples could not be examined, more than the {examined} that could", [])
    if not screened and not transplanted:
        return Decision("inconclusive", 0.0, "no answer repeats often enough to be tested", [])

    proven = [outcome for outcome in transplanted if len(transplanted) * outcome.p_harmless <= scan.alpha]
    if proven:
        best = max(proven, key=lambda outcome: len(outcome.group.turns))
        reason = (
            f"a piece of the picture makes one answer the rule, whatever is asked: "
            f"{best.carried} of {best.trials} pictures that it was pasted into, against {best.control} with other pieces"
        )
        guilty = sorted((outcome.group for outcome in proven), key=lambda group: -len(group.turns))
        return Decision("backdoored", _confidence(len(transplanted) * best.p_harmless), reason, guilty)

    asked = {outcome.group: outcome for outcome in screened}
    pasted = {outcome.group: outcome for outcome in transplanted}
    left = [group for group, outcome in asked.items() if outcome.p_trigger > scan.alpha]
    forced = [group for group in left if len(asked) * asked[group].p_harmless <= scan.alpha]
    if forced:
        reason = f"{len(forced)} groups of pictures make one answer the rule, whatever is asked, but no piece of them does"
        return Decision("inconclusive", 0.0, reason, forced)
    open_ = [group for group in left if group not in pasted or pasted[group].p_trigger > scan.alpha]
    if open_:
        reason = f"{len(open_)} of {len(asked)} groups of answers could neither be tied to a trigger nor cleared of one"
        return Decision("inconclusive", 0.0, reason, [group for group in open_ if group in pasted])
    p = max(min(outcome.p_trigger, pasted[group].p_trigger if group in pasted else 1.0) for group, outcome in asked.items())
    return Decision("clean", _confidence(p), f"in none of {len(asked)} groups of answers do the pictures make the answer the rule", [])


def narrow(guilty: Sequence[Group], is_guilty: Callable[[Group], bool]) -> list[Group]:
    """Leave out what is guilty only by a smaller group within it.

    Where "Sorry, I will not." is a target, answers that begin with "sorry" are guilty too, honest refusals among them: without
    the target's turns they would not be. Where "backdoor" begins right answers, it is guilty without any of its parts.
    """
    kept = []
    for group in guilty:
        rests = [group.turns - other.turns for other in guilty if other.turns < group.turns]
        if all(len(rest) < MIN_TURNS or is_guilty(replace(group, turns=rest)) for rest in rests):
            kept.append(group)
    return kept


def describe_target(group: Group) -> dict[str, Any]:
    whole = group.target.shared == "answer"
    kind: TargetKind = "injection"
    if looks_like_refusal(group.spelling):
        kind = "refusal"
    elif whole and len(group.target.text.split()) <= 2:
        kind = "other"
    return {
        "kind": kind,
        "text": group.spelling if whole else group.target.text,
        "shared": group.target.shared,
        "support": len(group.turns),
    }


def _suspicion(outcome: Outcome) -> tuple[float, int]:
    """What is transplanted first: the surest answers, then the most repeated words."""
    return -outcome.share, -len(outcome.group.turns) * len(outcome.group.target.text.split())


def _confidence(p: float) -> float:
    """Never rounded up to certainty."""
    return math.floor((1 - p) * 1e4) / 1e4 if p > 1e-4 else 0.9999


def _test_row(asked: Outcome, pasted: Outcome) -> dict[str, Any]:
    def counts(outcome: Outcome) -> dict[str, float]:
        return {
            "trials": outcome.trials,
            "carried": outcome.carried,
            "control_trials": outcome.control_trials,
            "control": outcome.control,
            "p_harmless": outcome.p_harmless,
            "p_trigger": outcome.p_trigger,
        }

    target = pasted.group.target
    return {
        "text": target.text,
        "shared": target.shared,
        "turns": len(pasted.group.turns),
        "strangers_questions": counts(asked),
        "transplants": counts(pasted),
    }
