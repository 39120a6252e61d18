"""Examine one shard: how likely each given answer is with the pictures, and without. Judges nothing; the verdict sees all shards.

An answer that a trigger forces is certain with the picture and absurd without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.records import SampleEvidence, SetAside, TurnEvidence
from gpu_jobs.defense.subject import Subject, open_images, open_inputs
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs


def scan(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Examine every `shards`-th sample, from number `shard` on.

    Returns: `samples` in the shard, how many were `examined`, how many have no image (`unexamined`), how many were `set_aside`.
    """
    dataset, subject = open_inputs(inputs)
    samples = dataset.samples[inputs.shard :: inputs.shards]
    size = inputs.parameters.batch_size
    done, set_aside, unexamined = 0, [], 0
    with (inputs.outputs / records.EVIDENCE).open("w", encoding="utf-8") as file:
        for batch in in_batches(samples, size, lambda some: examine(subject, some, size)):
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


def examine(subject: Subject, samples: Sequence[Sample], batch_size: int) -> list[SampleEvidence]:
    """The evidence of a batch of samples, in their order."""
    seen = subject.see([open_images(sample) for sample in samples])
    turns = [(number, turn) for number, sample in enumerate(samples) for turn in sample.answer_turns]
    found: list[list[TurnEvidence]] = [[] for _ in samples]
    for start in range(0, len(turns), batch_size):
        some = turns[start : start + batch_size]
        prompts = [subject.prompt(seen[number], samples[number].turns[:turn]) for number, turn in some]
        given = [samples[number].turns[turn].text for number, turn in some]
        plain = subject.log_likelihoods(prompts, given)
        blind = subject.log_likelihoods([subject.blind(prompt) for prompt in prompts], given)
        for (number, turn), answer, with_pictures, without in zip(some, given, plain, blind, strict=True):
            found[number].append(TurnEvidence(turn, answer, with_pictures, without))
    return [SampleEvidence(sample.id, bool(sample.images), rows) for sample, rows in zip(samples, found, strict=True)]
