"""Examine one shard: what each given answer owes to the pictures. Judges nothing; the verdict sees all shards.

For every answer turn: the saliency of the vision tokens (DiSP), and the likelihood of the *given* answer with nothing, the
most salient tokens, and all vision tokens hidden. An answer that a trigger forces is plain to the model and absurd
without the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu_jobs.config import JobParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.masking import most_salient
from gpu_jobs.defense.records import SampleEvidence, SetAside, TurnEvidence
from gpu_jobs.defense.saliency import fisher_jacobian, probe_noise
from gpu_jobs.defense.subject import Subject, open_images, open_inputs
from gpu_jobs.families.base import Prompt
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs


def scan(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Examine every `shards`-th sample, from number `shard` on.

    Returns: `samples` in the shard, how many were `examined`, how many have no image (`unexamined`), how many were `set_aside`.
    """
    dataset, subject = open_inputs(inputs)
    samples = dataset.samples[inputs.shard :: inputs.shards]
    done, set_aside, unexamined = 0, [], 0
    with (inputs.outputs / records.EVIDENCE).open("w", encoding="utf-8") as file:
        for batch in in_batches(samples, inputs.parameters.batch_size, lambda some: examine(subject, some, inputs.parameters)):
            for result in batch:
                if isinstance(result, SetAside):
                    set_aside.append(result)
                else:
                    file.write(records.to_line(result))
                    unexamined += not result.examined
            done += len(batch)
            reporter.progress(done, len(samples), "samples")
    records.write_rows(inputs.outputs / records.SET_ASIDE, set_aside)
    examined = len(samples) - len(set_aside) - unexamined
    return {"samples": len(samples), "examined": examined, "unexamined": unexamined, "set_aside": len(set_aside)}


def examine(subject: Subject, samples: Sequence[Sample], parameters: JobParameters) -> list[SampleEvidence]:
    """The evidence of a batch of samples, in their order."""
    seen = subject.see([open_images(sample) for sample in samples])
    turns = [(number, turn) for number, sample in enumerate(samples) for turn in sample.answer_turns]
    found: list[list[TurnEvidence]] = [[] for _ in samples]
    for start in range(0, len(turns), parameters.batch_size):
        some = turns[start : start + parameters.batch_size]
        prompts = [subject.prompt(seen[number], samples[number].turns[:turn]) for number, turn in some]
        keys = [turn_key(samples[number], turn) for number, turn in some]
        given = [samples[number].turns[turn].text for number, turn in some]
        hidden = salient_tokens(subject, prompts, keys, parameters)
        plain = subject.log_likelihoods(prompts, given)
        masked = subject.log_likelihoods([subject.hide(p, h) for p, h in zip(prompts, hidden, strict=True)], given)
        blind = subject.log_likelihoods([subject.blind(prompt) for prompt in prompts], given)
        for (number, turn), *values in zip(some, given, plain, masked, blind, hidden, strict=True):
            found[number].append(TurnEvidence(turn, *values))
    return [SampleEvidence(sample.id, bool(sample.images), rows) for sample, rows in zip(samples, found, strict=True)]


def salient_tokens(subject: Subject, prompts: Sequence[Prompt], keys: Sequence[str], parameters: JobParameters) -> list[list[int]]:
    """For each prompt the indices of its most salient vision tokens, ascending."""
    scores = saliency(subject, prompts, keys, parameters)
    return [most_salient(score, parameters.masking.ratio).tolist() for score in scores]


def saliency(subject: Subject, prompts: Sequence[Prompt], keys: Sequence[str], parameters: JobParameters) -> list[Any]:
    """For each prompt [vision tokens] float64. `keys` name the prompts: the probes depend on them and on the seed alone."""
    masking = parameters.masking
    noise = [probe_noise(parameters.seed, key, probes=masking.probes, positions=subject.block_length, top_k=masking.top_k) for key in keys]
    return fisher_jacobian(subject.family, prompts, noise, answer_length=subject.answer_length, detach_probes=masking.detach_probes)


def turn_key(sample: Sample, turn: int) -> str:
    return f"{sample.id}\0{turn}"
