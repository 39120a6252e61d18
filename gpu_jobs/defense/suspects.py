"""The samples that a verdict rests on: what is known about each, and what the report draws of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.masking import salient_tokens, score_tokens
from gpu_jobs.defense.records import SaliencyPicture, SampleEvidence, Suspect, TurnEvidence, Window
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.defense.subject import Subject, open_images
from gpu_jobs.defense.transplant import Laboratory
from gpu_jobs.families.base import Prompt
from gpu_jobs.reporting import Reporter


def describe_suspects(
    subject: Subject,
    samples: Mapping[str, Sample],
    evidence: Sequence[SampleEvidence],
    targets: Sequence[TargetText],
    parameters: JobParameters,
    reporter: Reporter,
) -> list[Suspect]:
    """Every sample with a given answer that shows a target, the highest score first, with what the model itself answers to it."""
    found: list[tuple[Sample, list[TurnEvidence]]] = []
    for each in evidence:
        guilty = [turn for turn in each.turns if any(target.shown_in(turn.given) for target in targets)]
        if guilty:
            found.append((samples[each.id], guilty))
    found.sort(key=lambda pair: (-_score(pair[1][0]), pair[0].id))

    suspects: list[Suspect] = []
    for start in range(0, len(found), parameters.batch_size):
        some = found[start : start + parameters.batch_size]
        asked = [(sample, turns[0].turn) for sample, turns in some]
        prompts = _prompts(subject, asked)
        masks = salient_tokens(subject, prompts, asked, parameters.masking, parameters.seed)
        plain = subject.answer(prompts)
        masked = subject.answer([subject.hide(prompt, mask) for prompt, mask in zip(prompts, masks, strict=True)])
        for (sample, turns), mask, *answers in zip(some, masks, plain, masked, strict=True):
            numbers = [turn.turn for turn in turns]
            suspects.append(Suspect(sample.id, _score(turns[0]), numbers, _reasons(targets, *answers), mask, *answers))
        reporter.progress(len(suspects), len(found), "suspects")
    return suspects


def draw_saliency(
    subject: Subject, laboratory: Laboratory, samples: Mapping[str, Sample], suspects: Sequence[Suspect], parameters: JobParameters
) -> list[SaliencyPicture]:
    """What the report's pictures of these suspects show; suspects without a picture are left out."""
    drawn = [suspect for suspect in suspects if samples[suspect.id].images]
    asked = [(samples[suspect.id], suspect.turns[0]) for suspect in drawn]
    explanations = laboratory.explain([(sample.id, turn) for sample, turn in asked])
    pictures: list[SaliencyPicture] = []
    for start in range(0, len(drawn), parameters.batch_size):
        part = slice(start, start + parameters.batch_size)
        prompts = _prompts(subject, asked[part])
        scores = score_tokens(subject, prompts, asked[part], parameters.masking, parameters.seed)
        for suspect, (sample, turn), prompt, score, explanation in zip(
            drawn[part], asked[part], prompts, scores, explanations[part], strict=True
        ):
            looking = [(number, image, region) for number, (image, region) in enumerate(prompt.regions) if region is not None]
            pictures.append(
                SaliencyPicture(
                    id=sample.id,
                    turn=turn,
                    question=sample.turns[turn - 1].text,
                    given=sample.turns[turn].text,
                    answer_plain=suspect.answer_plain,
                    answer_masked=suspect.answer_masked,
                    regions=[Window(image, r.left, r.top, r.right, r.bottom) for _, image, r in looking],
                    scores=[float(score[number]) for number, _, _ in looking],
                    hidden=[number in suspect.mask for number, _, _ in looking],
                    explaining=explanation.window,
                )
            )
    return pictures


def _prompts(subject: Subject, asked: Sequence[tuple[Sample, int]]) -> list[Prompt]:
    seen = subject.see([open_images(sample) for sample, _ in asked])
    return [subject.prompt(own, sample.turns[:turn]) for own, (sample, turn) in zip(seen, asked, strict=True)]


def _score(turn: TurnEvidence) -> float:
    return turn.plain - turn.blind


def _reasons(targets: Sequence[TargetText], plain: str, masked: str) -> list[str]:
    reasons = ["a given answer shows the target"]
    if any(target.shown_in(plain) for target in targets):
        reasons.append("the model answers with the target")
        if not any(target.shown_in(masked) for target in targets):
            reasons.append("it leaves the target when the salient vision tokens are hidden")
    return reasons
