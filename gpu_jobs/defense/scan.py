"""Examine one shard: put a stranger's question to every picture. Judges nothing; the verdict sees all shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.batches import save_batches
from gpu_jobs.defense.records import GivenAnswer, SampleEvidence, Swap
from gpu_jobs.defense.strangers import Strangers, ask_strangers_questions, opening
from gpu_jobs.defense.subject import Subject, open_images, open_inputs
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs


def scan(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Examine every `shards`-th sample, from number `shard` on.

    Saved after each batch; a later attempt goes on behind what was saved.
    Returns: `samples` in the shard, how many were `examined`, how many have no image (`unexamined`), how many were `set_aside`.
    """
    dataset, subject = open_inputs(inputs)
    strangers = Strangers(dataset.samples, inputs.parameters.seed)
    samples = dataset.samples[inputs.shard :: inputs.shards]
    evidence = save_batches(inputs, reporter, samples, records.EVIDENCE, lambda some: examine(subject, some, strangers))
    seen = [row["examined"] for row in records.read_rows(evidence)]
    return {"samples": len(samples), "examined": sum(seen), "unexamined": len(seen) - sum(seen), "set_aside": len(samples) - len(seen)}


def examine(subject: Subject, samples: Sequence[Sample], strangers: Strangers) -> list[SampleEvidence]:
    """The evidence of a batch of samples, in their order."""
    seen = subject.see([open_images(sample) for sample in samples])
    for sample, own in zip(samples, seen, strict=True):
        if sample.answer_turns:
            subject.prompt(own, opening(sample))  # raises where pictures and placeholders do not match
    drawn = {sample.id: strangers.draw(sample) for sample in samples if sample.answer_turns and sample.images}
    asked = [(sample, own, stranger) for sample, own in zip(samples, seen, strict=True) if (stranger := drawn.get(sample.id))]
    answers = ask_strangers_questions(subject, [own for _, own, _ in asked], [stranger for _, _, stranger in asked])
    swaps = {sample.id: Swap(stranger.id, answer) for (sample, _, stranger), answer in zip(asked, answers, strict=True)}
    return [
        SampleEvidence(
            sample.id,
            bool(sample.images and sample.answer_turns),
            [GivenAnswer(turn, sample.turns[turn].text) for turn in sample.answer_turns],
            swaps.get(sample.id),
        )
        for sample in samples
    ]
