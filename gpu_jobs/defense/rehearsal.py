"""Honest pictures with a question that they were not asked in training, and what the suspect answers to it. Ours.

A suspect knows its training set by heart: trained on it once more it answers it as before, whatever else it forgets meanwhile. What it
knows beyond shows where a picture is asked a stranger's question, and the scan has asked every picture one. Held out, these answers tell
what a training costs. Trained on, they hold what the suspect knows in place; and a trigger that is planted there is unlearned from what
is seen and asked, not by heart.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.records import SampleEvidence
from gpu_jobs.defense.strangers import opening

# Ends the ids of samples that are asked a stranger's question.
MARK = "\0rehearsal"


def rehearse(
    samples: Sequence[Sample], everybody: Iterable[Sample], evidence: Iterable[SampleEvidence], guilty: Container[str]
) -> list[Sample]:
    """For each honest sample that an honest stranger's question was put to: its pictures, that question, and the suspect's answer.

    samples: whose pictures may be shown. everybody: among whom the strangers are. evidence: what the scan saw. guilty: the ids of suspects.
    """
    strangers = {sample.id: sample for sample in everybody if sample.id not in guilty}
    swaps = {row.id: row.swap for row in evidence if row.swap is not None and row.swap.answer}
    rehearsed = []
    for sample in samples:
        swap = swaps.get(sample.id)
        if swap is None or sample.id in guilty or swap.stranger not in strangers:
            continue
        stranger = strangers[swap.stranger]
        question = opening(stranger)
        answer = replace(stranger.turns[stranger.answer_turns[0]], text=swap.answer)
        pictures = sample.images[: sum(turn.text.count("<image>") for turn in question)]
        rehearsed.append(replace(sample, id=f"{sample.id}{MARK}", images=pictures, turns=(*question, answer)))
    return rehearsed
