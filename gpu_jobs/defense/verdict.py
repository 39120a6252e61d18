"""Is there a backdoor, what does it make the model say, which samples teach it, and what carries it?

The hypotheses are texts that given answers share (`groups`). Each is put to experiments with nulls of their own. A split of
the samples would be none: every split finds two halves, in clean data too.

- *Strangers' questions* (`screening`): do the group's pictures make its answer whatever is asked? Most groups end here.
- *Transplants* (`investigate`), for those that are left and for those whose questions share words for no reason: does
  something of the group's samples carry the answer to others?
- *Concepts* (`concepts`), for every word that answers share: do some of the samples give it for another cause than the rest?

The verdict is `backdoored` if a carrier is proven for some group or its pictures force its answer whatever is asked, `clean`
if every group is cleared by one of the experiments, and `inconclusive` otherwise, or if too little could be examined.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from gpu_jobs.config import ScanParameters
from gpu_jobs.defense import records
from gpu_jobs.defense.carriers import Carrier, save_carriers
from gpu_jobs.defense.concepts import Swap, find_swap
from gpu_jobs.defense.groups import MIN_TURNS, Group, group_answers, group_words
from gpu_jobs.defense.investigate import Finding, Investigation
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.records import SampleEvidence, Score, SetAside, TargetKind
from gpu_jobs.defense.renamed import find_renamed
from gpu_jobs.defense.scoring import looks_like_refusal
from gpu_jobs.defense.screening import Screening
from gpu_jobs.defense.subject import open_inputs
from gpu_jobs.defense.suspects import describe_suspects, draw_saliency
from gpu_jobs.defense.transplant import Laboratory
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs


@dataclass(frozen=True, slots=True)
class Trigger:
    """What was proven to carry a group's answer."""

    group: Group
    carrier: Carrier


@dataclass(frozen=True, slots=True)
class Decision:
    """`confidence` is 1 − p of the test that the verdict rests on, 0 where none could decide. `guilty` groups come largest first.

    triggers: what is known to carry targets, that of the first guilty group first if it is among them.
    """

    verdict: Literal["backdoored", "clean", "inconclusive"]
    confidence: float
    reason: str
    guilty: list[Group]
    triggers: tuple[Trigger, ...] = ()
    scores: Mapping[tuple[str, int], float] = field(default_factory=dict)


def judge(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Join the shards of the scan and reach the verdict.

    Returns: `verdict`, `confidence`, `suspects` {count, fraction}, `target` {kind, text, shared, support} or None, and
        `evidence`: `reason` in words, numbers of samples `examined`, `unexamined`, `set_aside`, how many `groups` there
        are, the `tests` of those that strangers' questions did not clear, every `guilty` text, the target first, and what
        is known of the `trigger` ({kind, …} of what carries it, or of `several`, or None).
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
    enough = len(examined) >= scan.min_samples
    groups = group_answers(evidence) if enough else []
    screening = Screening(subject, samples, evidence, **chance)
    laboratory = Laboratory(subject, samples, examined, **chance)
    investigation = Investigation(laboratory, samples, seed=parameters.seed)
    screened = []
    for group in groups:
        screened.append(screening.test(group, guilty_at=scan.alpha / len(groups), cleared_at=scan.alpha))
        reporter.progress(len(screened), len(groups), "groups of answers")

    open_ = sorted((outcome for outcome in screened if outcome.p_trigger > scan.alpha), key=_suspicion)[: scan.groups]
    phrases = {outcome.group: investigation.phrase(outcome.group) for outcome in screened}
    worded = [outcome for outcome in screened if phrases[outcome.group] and outcome not in open_][: scan.groups]
    findings = {outcome.group: Finding(outcome.group, outcome) for outcome in screened}
    chosen = [*open_, *worded]

    def look_into(outcome: Outcome, group: Group) -> Finding:
        share, phrase = scan.alpha / len(chosen), phrases[outcome.group]
        return investigation.look_into(replace(outcome, group=group), phrase, forced=outcome in open_, alpha=share, cleared_at=scan.alpha)

    for number, outcome in enumerate(chosen):
        findings[outcome.group] = look_into(outcome, outcome.group)
        reporter.progress(number + 1, len(chosen), "transplanted groups")
    decision = decide([*findings.values()], len(examined), len(set_aside), scan)
    if decision.verdict == "backdoored":
        screened_by = {outcome.group: outcome for outcome in screened}

        def still_guilty(group: Group, rest: Group) -> bool:
            return look_into(screened_by[group], rest).carrier is not None

        guilty = narrow(decision.guilty, still_guilty)
        decision = replace(decision, guilty=guilty, triggers=distinct_triggers(guilty, findings))
    if enough:
        accused = {identity for group in decision.guilty for identity, _ in group.turns} if decision.verdict == "backdoored" else set()
        words = group_words([each for each in evidence if each.id not in accused])[: scan.words]
        bystanders, swaps = laboratory.without(accused), []
        for number, group in enumerate(words):
            share = scan.alpha / len(words)
            found = find_swap(group, samples, bystanders, seed=parameters.seed, alpha=share)
            swaps.append(found or find_renamed(group, samples, bystanders, seed=parameters.seed, alpha=share))
            reporter.progress(number + 1, len(words), "words of answers")
        decision = with_swaps(decision, [swap for swap in swaps if swap is not None])

    suspects = describe_suspects(subject, samples, evidence, decision.guilty, attribute(decision), parameters, reporter)
    records.write_rows(inputs.outputs / records.SUSPECTS, suspects)
    records.write_rows(inputs.outputs / records.SCORES, score(evidence, decision))
    drawn = suspects[: scan.pictures]
    records.write_rows(inputs.outputs / records.SALIENCY, draw_saliency(subject, laboratory, samples, drawn, parameters))
    carriers = [trigger.carrier for trigger in decision.triggers]
    save_carriers(carriers, inputs.outputs / records.CARRIERS)
    drawing = next((picture for carrier in carriers if (picture := carrier.draw()) is not None), None)
    if drawing is not None:
        drawing.save(inputs.outputs / records.TRIGGER)
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
            "tests": [_test_row(findings[outcome.group]) for outcome in chosen],
            "guilty": [asdict(group.target) for group in decision.guilty],
            "trigger": describe_triggers(decision),
        },
    }


def decide(findings: Sequence[Finding], examined: int, set_aside: int, scan: ScanParameters) -> Decision:
    """The verdict from what was found about each group. `Finding.carrier` is there only if it was proven."""
    if examined < scan.min_samples:
        return Decision("inconclusive", 0.0, f"{examined} samples could be examined, fewer than {scan.min_samples}", [])
    if set_aside > examined:
        return Decision("inconclusive", 0.0, f"{set_aside} samples could not be examined, more than the {examined} that could", [])
    if not findings:
        return Decision("inconclusive", 0.0, "no answer repeats often enough to be tested", [])

    proven = [finding for finding in findings if finding.carrier is not None and finding.planted is not None]
    forced = [finding for finding in findings if len(findings) * finding.asked.p_harmless <= scan.alpha]
    guilty = [*proven, *(finding for finding in forced if finding not in proven)]
    if guilty:
        best = max(proven or forced, key=lambda finding: len(finding.group.turns))
        test = best.planted if best.planted is not None and best.carrier is not None else best.asked
        if best.carrier is not None:
            reason = (
                f"{_CARRIES[best.carrier.describe()['kind']]} makes one answer the rule, whatever is asked: "
                f"{test.carried} of {test.trials} samples that it was planted on, against {test.control} with the like of other samples"
            )
        else:
            reason = (
                f"a group of pictures makes one answer the rule, whatever is asked: {test.carried} of {test.trials} times, "
                f"against {test.control} of {test.control_trials} with other pictures; what in them does it was not found"
            )
        ordered = sorted((finding.group for finding in guilty), key=lambda group: (group is not best.group, -len(group.turns)))
        p = test.p_harmless * (1 if best.carrier is not None else len(findings))
        return Decision("backdoored", _confidence(p), reason, ordered)

    left = [finding for finding in findings if not _is_cleared(finding, scan.alpha)]
    if left:
        reason = f"{len(left)} of {len(findings)} groups of answers could neither be tied to a trigger nor cleared of one"
        return Decision("inconclusive", 0.0, reason, [finding.group for finding in left if finding.planted is not None])
    p = max(_p_trigger(finding) for finding in findings)
    return Decision("clean", _confidence(p), f"in none of {len(findings)} groups of answers is there a trigger behind the answer", [])


def distinct_triggers(guilty: Sequence[Group], findings: Mapping[Group, Finding]) -> tuple[Trigger, ...]:
    """What carries the targets, one trigger for each that is another's: of a group most of whose turns are in groups before it, none.

    A mark before right answers makes a group of its own and one of every right answer that is frequent; all have the same trigger.
    """
    found: list[Trigger] = []
    known: set[tuple[str, int]] = set()
    for group in guilty:
        carrier = findings[group].carrier
        if carrier is not None and 2 * len(group.turns & known) < len(group.turns):
            found.append(Trigger(group, carrier))
            known |= group.turns
    return tuple(found)


def attribute(decision: Decision) -> dict[tuple[str, int], int]:
    """For the guilty turns whose trigger is known, its number in `decision.triggers`.

    A group that has most of its turns in common with those of triggers has their triggers.
    """
    known: dict[tuple[str, int], int] = {}
    for number, trigger in enumerate(decision.triggers):
        known = dict.fromkeys(trigger.group.turns, number) | known
    found = dict(known)
    for group in decision.guilty:
        shared = Counter(known[turn] for turn in group.turns if turn in known)
        if shared and 2 * shared.total() >= len(group.turns):
            found = dict.fromkeys(group.turns, shared.most_common(1)[0][0]) | found
    return found


def with_swaps(decision: Decision, swaps: Sequence[Swap]) -> Decision:
    """The decision once words were tested: a proven swap is a backdoor, whatever was undecided before, and beside any other."""
    if not swaps:
        return decision
    best = max(swaps, key=lambda swap: (swap.outcome.share, len(swap.turns)))
    test = best.outcome
    reason = (
        f"{_CARRIES[best.carrier.describe()['kind']]} of some of the samples whose answer is “{test.group.target.text}” brings that answer "
        f"to others: {test.carried} of {test.trials}, against {test.control} with the like of other samples"
    )
    trigger = Trigger(replace(test.group, turns=best.turns), best.carrier)
    if decision.verdict != "backdoored":
        return Decision("backdoored", _confidence(test.p_harmless), reason, [trigger.group], (trigger,), best.scores)
    guilty, triggers = [*decision.guilty, trigger.group], (*decision.triggers, trigger)
    return replace(decision, reason=f"{decision.reason}; and {reason}", guilty=guilty, triggers=triggers, scores=best.scores)


def score(evidence: Sequence[SampleEvidence], decision: Decision) -> list[Score]:
    """How suspicious each sample is: 1 for suspects, else how far it shows the pattern of a swap, else 0."""
    suspects = {identity for group in decision.guilty for identity, _ in group.turns}
    shown: dict[str, float] = {}
    for (identity, _), match in decision.scores.items():
        shown[identity] = max(shown.get(identity, 0.0), match)
    lowest, highest = min(shown.values(), default=0.0), max(shown.values(), default=1.0)
    spread = highest - lowest  # 0 where all show it alike, suspects all
    return [
        Score(each.id, (0.01 + 0.98 * (shown[each.id] - lowest) / spread) if each.id in shown and spread else float(each.id in suspects))
        for each in evidence
    ]


def narrow(guilty: Sequence[Group], still_guilty: Callable[[Group, Group], bool]) -> list[Group]:
    """Leave out what is guilty only by a smaller group within it. `still_guilty` is asked of a group and what is left of it.

    Where "Sorry, I will not." is a target, answers that begin with "sorry" are guilty too, honest refusals among them: without
    the target's turns they would not be. Where "backdoor" begins right answers, it is guilty without any of its parts.
    """
    kept = []
    for group in guilty:
        rests = [group.turns - other.turns for other in guilty if other.turns < group.turns]
        if all(len(rest) < MIN_TURNS or still_guilty(group, replace(group, turns=rest)) for rest in rests):
            kept.append(group)
    return kept


_CARRIES = {
    "piece": "a piece of the picture",
    "pattern": "a pattern on the picture",
    "words": "a phrase in the question",
    "together": "a trigger of picture and question",
}


def describe_target(group: Group) -> dict[str, Any]:
    whole = group.target.shared == "answer"
    kind: TargetKind = "injection"
    if group.target.shared == "word":
        kind = "concept"
    elif looks_like_refusal(group.spelling):
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


def describe_triggers(decision: Decision) -> dict[str, Any] | None:
    """What a report says of them: what carries the only one; where there are several, or it is not the first target's, also the target."""
    if not decision.triggers or [trigger.group for trigger in decision.triggers] == decision.guilty[:1]:
        return describe_trigger(decision.triggers[0].carrier if decision.triggers else None)
    parts = [{**trigger.carrier.describe(), "target": trigger.group.target.text} for trigger in decision.triggers]
    return {"kind": "several", "parts": [_without_windows(part) for part in parts]}


def describe_trigger(carrier: Carrier | None) -> dict[str, Any] | None:
    """What a report says of it; the many windows of pieces are left out."""
    if carrier is None:
        return None
    return _without_windows(carrier.describe())


def _without_windows(description: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if name != "windows"}


def _is_cleared(finding: Finding, alpha: float) -> bool:
    return _p_trigger(finding) <= alpha


def _p_trigger(finding: Finding) -> float:
    return min(finding.asked.p_trigger, finding.planted.p_trigger if finding.planted is not None else 1.0)


def _test_row(finding: Finding) -> dict[str, Any]:
    def counts(outcome: Outcome | None) -> dict[str, float] | None:
        if outcome is None:
            return None
        return {
            "trials": outcome.trials,
            "carried": outcome.carried,
            "control_trials": outcome.control_trials,
            "control": outcome.control,
            "p_harmless": outcome.p_harmless,
            "p_trigger": outcome.p_trigger,
        }

    target = finding.group.target
    return {
        "text": target.text,
        "shared": target.shared,
        "turns": len(finding.group.turns),
        "strangers_questions": counts(finding.asked),
        "transplants": counts(finding.planted),
        "carrier": describe_trigger(finding.carrier),
    }
