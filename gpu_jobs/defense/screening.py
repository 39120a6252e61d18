"""Which groups of answers the strangers' questions already clear. Ours.

Every sample was asked one stranger's question in the scan (`strangers`). For a group of answers that is an experiment: do
the group's pictures make its answer there too, and other pictures not? Small groups are asked a few questions more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.groups import Group
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.records import SampleEvidence
from gpu_jobs.defense.scoring import normalise
from gpu_jobs.defense.strangers import Strangers, ask_strangers_questions
from gpu_jobs.defense.subject import Subject, open_images

# Questions to a group, those of the scan included, at which it is not asked any more.
ENOUGH = 48


class Screening:
    """Tests groups by strangers' questions, those that the scan asked and a few more."""

    def __init__(
        self, subject: Subject, samples: Mapping[str, Sample], evidence: Sequence[SampleEvidence], *, seed: int, batch_size: int
    ) -> None:
        self._subject = subject
        self._samples = samples
        self._strangers = Strangers([*samples.values()], seed)
        self._batch_size = batch_size
        self._answers = {each.id: [normalise(each.swap.answer)] for each in evidence if each.swap is not None}

    def test(self, group: Group, *, guilty_at: float, cleared_at: float) -> Outcome:
        """Count, and ask on until `p_harmless` or `p_trigger` is low enough or `ENOUGH` questions were asked."""
        members = group.first_turns
        control = [group.target.shown_in_words(answers[0]) for identity, answers in self._answers.items() if identity not in members]
        asked = [identity for identity in members if identity in self._answers]
        rounds = 1
        while True:
            shown = [group.target.shown_in_words(answer) for identity in asked for answer in self._answers[identity][:rounds]]
            outcome = Outcome(group, len(shown), sum(shown), len(control), sum(control))
            undecided = outcome.p_harmless > guilty_at and outcome.p_trigger > cleared_at
            if not asked or not undecided or len(shown) >= ENOUGH or rounds >= ENOUGH:
                return outcome
            rounds += 1
            self._ask([identity for identity in asked if len(self._answers[identity]) < rounds])

    def _ask(self, identities: Sequence[str]) -> None:
        """Put one more question to these samples' pictures."""
        for start in range(0, len(identities), self._batch_size):
            some = identities[start : start + self._batch_size]
            samples = [self._samples[identity] for identity in some]
            drawn = [self._strangers.draw(sample, len(self._answers[sample.id])) for sample in samples]
            found = [(sample, stranger) for sample, stranger in zip(samples, drawn, strict=True) if stranger is not None]
            seen = self._subject.see([open_images(sample) for sample, _ in found])
            answers = ask_strangers_questions(self._subject, seen, [stranger for _, stranger in found])
            for (sample, _), answer in zip(found, answers, strict=True):
                self._answers[sample.id].append(normalise(answer))
