"""The samples that a verdict rests on: what is known about each, and what the report draws of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.groups import Group
from gpu_jobs.defense.masking import salient_tokens, score_tokens
from gpu_jobs.defense.records import SaliencyPicture, SampleEvidence, Suspect, Window
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.defense.subject import Subject, open_images
from gpu_jobs.defense.transplant import Laboratory
from gpu_jobs.families.base import Prompt
from gpu_jobs.reporting import Reporter


def describe_suspects(
    subject: Subject,
    samples: Mapping[str, Sample],
    evidence: Sequence[SampleEvidence],
    guilty: Sequence[Group],
    carried: Mapping[tuple[str, int], int],
    parameters: JobParameters,
    reporter: Reporter,
) -> list[Suspect]:
    """Every sample with a turn in a guilty group, the highest score first, with what the model itself answers to it.

    carried: of the turns whose trigger is known, the number of what carries it.
    """
    targets, accused = [group.target for group in guilty], {turn for group in guilty for turn in group.turns}
    found = [(each, turns) for each in evidence if (turns := [a.turn for a in each.given if (each.id, a.turn) in accused])]
    suspects: list[Suspect] = []
    for start in range(0, len(found), parameters.batch_size):
        some = found[start : start + parameters.batch_size]
        asked = [(samples[each.id], turns[0]) for each, turns in some]
        prompts = _prompts(subject, asked)
        masks = salient_tokens(subject, prompts, asked, parameters.masking, parameters.seed)
        given = [sample.turns[turn].text for sample, turn in asked]
        seeing = subject.log_likelihoods(prompts, given)
        blind = subject.log_likelihoods([subject.blind(prompt) for prompt in prompts], given)
        plain = subject.answer(prompts)
        masked = subject.answer([subject.hide(prompt, mask) for prompt, mask in zip(prompts, masks, strict=True)])
        for number, (each, turns) in enumerate(some):
            own = [target for target in targets if any(target.shown_in(given.text) for given in each.given if given.turn in turns)]
            reasons = ["a given answer shows the target"]
            if _shows(plain[number], own):
                reasons.append("the model answers with the target")
                if not _shows(masked[number], own):
                    reasons.append("it leaves the target when the salient vision tokens are hidden")
            if each.swap is not None and _shows(each.swap.answer, own):
                reasons.append("it answers with the target to another sample's question as well")
            score = seeing[number] - blind[number]
            known = all((each.id, turn) in carried for turn in turns)
            carriers = sorted({carried[each.id, turn] for turn in turns}) if known else []
            suspects.append(Suspect(each.id, score, turns, reasons, masks[number], plain[number], masked[number], carriers))
        reporter.progress(len(suspects), len(found), "suspects")
    return sorted(suspects, key=lambda suspect: (-suspect.score, suspect.id))


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


def _shows(answer: str, targets: Sequence[TargetText]) -> bool:
    return any(target.shown_in(answer) for target in targets)
