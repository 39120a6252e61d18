"""Does something of these samples carry their answer along? The causal test behind the verdict. Ours.

A carrier made of a group's samples is planted on other samples, which are then asked *their own* questions. A trigger makes its
answer there, whatever is asked. An honest piece of picture does so only where the question happens to fit. The control plants a
carrier of the same kind made of bystanders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense import windows
from gpu_jobs.defense.carriers import Carrier, Pieces
from gpu_jobs.defense.explain import Case, Explanation, explain
from gpu_jobs.defense.groups import Group
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.records import Window
from gpu_jobs.defense.strangers import opening
from gpu_jobs.defense.subject import Subject, open_images
from gpu_jobs.families.base import Prompt

Item = TypeVar("Item")

# Numbers of transplants after which it is looked whether they suffice.
TRANSPLANTS = (16, 48, 144)
# Samples that pieces are cut from; each serves several receivers.
DONORS = 24
# Below this mean log-likelihood a token (1 in 20) an answer is not what the model would say, so none is generated.
PLAUSIBLE = math.log(0.05)


AnswerTurn = tuple[str, int]
"""A sample's id and the number of one of its answer turns."""


Change = Callable[[Image.Image], Image.Image]
"""What is done to a picture before it is shown."""


class Laboratory:
    """Where carriers are tested. `examined` are the ids of the samples that have pictures and were not set aside."""

    def __init__(self, subject: Subject, samples: Mapping[str, Sample], examined: Sequence[str], *, seed: int, batch_size: int) -> None:
        self._subject = subject
        self._samples = samples
        self._examined = list(examined)
        self._seed = seed
        self._batch_size = batch_size
        self._explained: dict[AnswerTurn, Explanation] = {}

    def without(self, accused: Container[str]) -> Laboratory:
        """One that leaves these samples alone."""
        examined = [identity for identity in self._examined if identity not in accused]
        return Laboratory(self._subject, self._samples, examined, seed=self._seed, batch_size=self._batch_size)

    def explain(self, turns: Sequence[AnswerTurn]) -> list[Explanation]:
        """The explaining windows of given answers, each computed once."""
        unknown = [turn for turn in dict.fromkeys(turns) if turn not in self._explained]
        for start in range(0, len(unknown), self._batch_size):
            some = unknown[start : start + self._batch_size]
            found = explain(self._subject, [self._case(*turn) for turn in some], self._batch_size)
            self._explained.update(zip(some, found, strict=True))
        return [self._explained[turn] for turn in turns]

    def ask(self, turns: Sequence[AnswerTurn], change: Change) -> list[str]:
        """What the model answers to the questions of these turns, their pictures changed."""
        return [answer for prompts, _ in self._shown(turns, turns, change) for answer in self._subject.answer(prompts)]

    def ask_planted(self, receivers: Sequence[str], carrier: Carrier) -> list[str]:
        """What the model answers to the first questions of these samples, the carrier planted on them."""
        rng, answers = Random(f"{self._seed} planted"), []
        for start in range(0, len(receivers), self._batch_size):
            planted = [self._planted(self._samples[identity], carrier, rng) for identity in receivers[start : start + self._batch_size]]
            seen = self._subject.see([pictures for pictures, _ in planted])
            answers += self._subject.answer([self._subject.prompt(own, turns) for own, (_, turns) in zip(seen, planted, strict=True)])
        return answers

    def log_likelihoods(self, turns: Sequence[AnswerTurn], answers: Sequence[str], change: Change) -> list[float]:
        """Of these answers to the questions of these turns, their pictures changed; of a whole answer, in nats."""
        found = []
        for prompts, given in self._shown(turns, answers, change):
            likelihoods = self._subject.log_likelihoods(prompts, given)
            found += [mean * len(self._subject.family.encode_answer(text)) for mean, text in zip(likelihoods, given, strict=True)]
        return found

    def _shown(self, turns: Sequence[AnswerTurn], besides: Sequence[Item], change: Change) -> Iterator[tuple[list[Prompt], Sequence[Item]]]:
        """The prompts of these turns, batch by batch, each with its part of what is besides."""
        for start in range(0, len(turns), self._batch_size):
            part = slice(start, start + self._batch_size)
            asked = [(self._samples[identity], turn) for identity, turn in turns[part]]
            seen = self._subject.see([[change(picture) for picture in open_images(sample)] for sample, _ in asked])
            yield [self._subject.prompt(own, sample.turns[:turn]) for own, (sample, turn) in zip(seen, asked, strict=True)], besides[part]

    def pieces(self, group: Group) -> tuple[Pieces, Pieces] | None:
        """The windows that explain the group's answers, and as control those of bystanders at the same places. None without bystanders."""
        rng = Random(f"{self._seed} {group.target}")
        others = self.others(group)
        if not others:
            return None
        donors = rng.sample(sorted(group.first_turns.items()), min(len(group.first_turns), DONORS))
        places = [found.window for found in self.explain(donors)]
        own = [(self._piece(identity, place), place) for (identity, _), place in zip(donors, places, strict=True)]
        foreign = [(self._piece(rng.choice(others), place), place) for place in places]
        return Pieces(tuple(own)), Pieces(tuple(foreign))

    def others(self, group: Group) -> list[str]:
        """The examined samples outside the group."""
        members = group.first_turns
        return [identity for identity in self._examined if identity not in members]

    def test(
        self,
        nothing_yet: Outcome,
        carrier: Carrier,
        control: Carrier,
        *,
        guilty_at: float,
        cleared_at: float,
        receivers: Sequence[str] | None = None,
        carries: Callable[[str, str], bool] | None = None,
    ) -> Outcome:
        """Plant both on receivers until `p_harmless` or `p_trigger` is low enough to decide, or enough were planted.

        nothing_yet: the group, and what counts as harmless and as a trigger, without trials.
        receivers: ids of the samples to plant on; None: any outside the group.
        carries: whether a receiver with this given answer now answers so; None: where it shows the group's text.
        """
        outcome, group = nothing_yet, nothing_yet.group
        rng = Random(f"{self._seed} {group.target} {carrier.describe()['kind']}")
        others = list(receivers) if receivers is not None else self.others(group)
        if not others:
            return outcome
        for look in TRANSPLANTS:
            chosen = [rng.choice(others) for _ in range(outcome.trials, look)]
            carried = self._count(group, chosen, carrier, rng, carries)
            controlled = self._count(group, chosen, control, rng, carries)
            outcome = replace(
                outcome, trials=look, carried=outcome.carried + carried, control_trials=look, control=outcome.control + controlled
            )
            if outcome.p_harmless <= guilty_at or outcome.p_trigger <= cleared_at:
                break
        return outcome

    def _case(self, identity: str, turn: int) -> Case:
        sample = self._samples[identity]
        images = open_images(sample)
        return Case(images, self._subject.see([images])[0], sample.turns[:turn], sample.turns[turn].text)

    def _piece(self, identity: str, window: Window) -> Image.Image:
        images = open_images(self._samples[identity])
        # A bystander may have fewer pictures than the donor whose window it lends its content to.
        return windows.crop(images[min(window.image, len(images) - 1)], window)

    def _count(
        self, group: Group, receivers: Sequence[str], carrier: Carrier, rng: Random, carries: Callable[[str, str], bool] | None
    ) -> int:
        """How many receivers, with the carrier planted on them, give the group's answer."""
        count = 0
        for start in range(0, len(receivers), self._batch_size):
            some = [self._samples[identity] for identity in receivers[start : start + self._batch_size]]
            planted = [self._planted(sample, carrier, rng) for sample in some]
            seen = self._subject.see([pictures for pictures, _ in planted])
            prompts = [self._subject.prompt(own, turns) for own, (_, turns) in zip(seen, planted, strict=True)]
            if group.target.shared == "answer":
                likelihoods = self._subject.log_likelihoods(prompts, [group.spelling] * len(prompts))
                prompts = [prompt for prompt, likelihood in zip(prompts, likelihoods, strict=True) if likelihood > PLAUSIBLE]
            answers = self._subject.answer(prompts)
            if carries is None:
                count += sum(map(group.target.shown_in, answers))
            else:
                count += sum(carries(sample.answers[0], answer) for sample, answer in zip(some, answers, strict=True))
        return count

    def _planted(self, sample: Sample, carrier: Carrier, rng: Random) -> tuple[list[Image.Image], tuple[Turn, ...]]:
        return carrier.plant(open_images(sample), opening(sample), rng)
