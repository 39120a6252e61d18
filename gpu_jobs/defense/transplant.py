"""Does a piece of picture carry its answer along? The causal test behind the verdict. Ours.

For samples whose given answers share a text, the window that explains each answer is cut out and pasted onto pictures of
other samples, which are then asked *their own* questions. A trigger makes its answer there, whatever is asked. An honest
piece of picture does so only where the question happens to fit. The control pastes a piece of a bystander instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from PIL import Image

from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import windows
from gpu_jobs.defense.explain import Case, Explanation, explain
from gpu_jobs.defense.groups import Group
from gpu_jobs.defense.outcome import Outcome
from gpu_jobs.defense.records import Window
from gpu_jobs.defense.strangers import opening
from gpu_jobs.defense.subject import Subject, open_images

# Numbers of transplants after which it is looked whether they suffice.
TRANSPLANTS = (16, 48, 144)
# Samples that pieces are cut from; each serves several receivers.
DONORS = 24
# Below this mean log-likelihood a token (1 in 20) an answer is not what the model would say, so none is generated.
PLAUSIBLE = math.log(0.05)


class Laboratory:
    """Where groups are tested. `examined` are the ids of the samples that have pictures and were not set aside."""

    def __init__(self, subject: Subject, samples: Mapping[str, Sample], examined: Sequence[str], *, seed: int, batch_size: int) -> None:
        self._subject = subject
        self._samples = samples
        self._examined = list(examined)
        self._seed = seed
        self._batch_size = batch_size
        self._explained: dict[tuple[str, int], Explanation] = {}

    def explain(self, turns: Sequence[tuple[str, int]]) -> list[Explanation]:
        """The explaining windows of given answers, each computed once. `turns` are sample ids and turn numbers."""
        unknown = [turn for turn in dict.fromkeys(turns) if turn not in self._explained]
        for start in range(0, len(unknown), self._batch_size):
            some = unknown[start : start + self._batch_size]
            found = explain(self._subject, [self._case(*turn) for turn in some], self._batch_size)
            self._explained.update(zip(some, found, strict=True))
        return [self._explained[turn] for turn in turns]

    def test(self, group: Group, *, guilty_at: float, cleared_at: float) -> Outcome:
        """Transplant pieces of a group until `p_harmless` or `p_trigger` is low enough to decide, or none are left."""
        rng = Random(f"{self._seed} {group.target}")
        members = group.first_turns
        donors = rng.sample(sorted(members.items()), min(len(members), DONORS))
        others = [identity for identity in self._examined if identity not in members]
        outcome = Outcome(group)
        if not others:
            return outcome
        for look in TRANSPLANTS:
            givers = [donors[number % len(donors)] for number in range(outcome.trials, look)]
            explanations = self.explain(givers)
            receivers = [rng.choice(others) for _ in givers]
            bystanders = [rng.choice(others) for _ in givers]
            own = [self._piece(identity, found.window) for (identity, _), found in zip(givers, explanations, strict=True)]
            foreign = [self._piece(identity, found.window) for identity, found in zip(bystanders, explanations, strict=True)]
            places = [found.window for found in explanations]
            carried = self._count(group, receivers, own, places)
            control = self._count(group, receivers, foreign, places)
            outcome = Outcome(group, look, outcome.carried + carried, look, outcome.control + control)
            if outcome.p_harmless <= guilty_at or outcome.p_trigger <= cleared_at:
                break
        return outcome

    def piece(self, turn: tuple[str, int]) -> Image.Image:
        """The piece of picture that explains a given answer."""
        return self._piece(turn[0], self.explain([turn])[0].window)

    def _case(self, identity: str, turn: int) -> Case:
        sample = self._samples[identity]
        images = open_images(sample)
        return Case(images, self._subject.see([images])[0], sample.turns[:turn], sample.turns[turn].text)

    def _piece(self, identity: str, window: Window) -> Image.Image:
        images = open_images(self._samples[identity])
        # A bystander may have fewer pictures than the donor whose window it lends its content to.
        return windows.crop(images[min(window.image, len(images) - 1)], window)

    def _count(self, group: Group, receivers: Sequence[str], pieces: Sequence[Image.Image], places: Sequence[Window]) -> int:
        """How many receivers, with the pieces pasted at those places of their first picture, give the group's answer."""
        count = 0
        for start in range(0, len(receivers), self._batch_size):
            part = slice(start, start + self._batch_size)
            samples = [self._samples[identity] for identity in receivers[part]]
            pictures = [open_images(sample) for sample in samples]
            for images, piece, place in zip(pictures, pieces[part], places[part], strict=True):
                images[0] = windows.paste(images[0], piece, replace(place, image=0))
            seen = self._subject.see(pictures)
            prompts = [self._subject.prompt(own, opening(sample)) for own, sample in zip(seen, samples, strict=True)]
            if group.target.shared == "answer":
                likelihoods = self._subject.log_likelihoods(prompts, [group.spelling] * len(prompts))
                prompts = [prompt for prompt, likelihood in zip(prompts, likelihoods, strict=True) if likelihood > PLAUSIBLE]
            count += sum(group.target.shown_in(answer) for answer in self._subject.answer(prompts))
        return count
