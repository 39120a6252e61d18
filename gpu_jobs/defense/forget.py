"""Make a copy of the compromised model forget its target, so that it can be asked again. Ours.

Removing the trigger needs to know what carries it; forgetting the target needs to know the target only, which the verdict
found. A short training makes the target's tokens unlikely as the answers of suspects (unlikelihood, arXiv:1908.04319) and
goes on with the other samples as they are. What is left between picture and answer is what those others taught, and it
holds under the trigger too: patch, blend, warp or word. The copy is only asked; what is handed out is trained from the model
that came in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gpu_jobs.config import ALL_PARTS, FinetuneParameters, ForgetParameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.purify import carriers_of_suspects, guilty_turns, known_targets
from gpu_jobs.defense.scoring import TargetText, normalise
from gpu_jobs.defense.subject import Subject, open_images, open_inputs
from gpu_jobs.defense.training import Trainer
from gpu_jobs.defense.training_run import default_learning_rate, make_trainable, train_to_the_end, training_rows
from gpu_jobs.families.base import Family
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs

# Probabilities are kept this far from 1, so that the logarithm of what is left stays finite.
MARGIN = 1e-4
Lesson = tuple[Sample, int]


def forget(inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Train the forgetful copy, where there are suspects whose trigger nothing is known to carry.

    Checkpoints every `finetune.checkpoint_every` steps; a resumed run ends in the same weights.
    Returns: whether there is a `forgetful` model, how many answers it was taught to `forget`, `optimiser_steps`, and the last `loss`.
    """
    targets = known_targets(inputs.results["verdict"][0])
    unknown = {identity for identity, carrier in carriers_of_suspects(inputs).items() if carrier is None}
    if not targets or not unknown or inputs.parameters.purify.method != "remove":
        return {"forgetful": False, "forget": 0, "optimiser_steps": 0, "loss": None}
    dataset, subject = open_inputs(inputs, precise=True)
    guilty = guilty_turns(inputs)
    aside = {row["id"] for row in records.read_rows(inputs.previous["verdict"][0] / records.SET_ASIDE)}
    usable = [sample for sample in dataset.samples if sample.answer_turns and sample.id not in aside]
    lessons = [(sample, guilty[sample.id][0]) for sample in usable if sample.id in unknown]
    others = [sample for sample in usable if sample.id not in guilty]
    if not lessons or not others:
        return {"forgetful": False, "forget": 0, "optimiser_steps": 0, "loss": None}

    trainer = forgetting(subject, lessons, others, targets, inputs.parameters.forget, inputs.parameters.finetune, inputs.parameters.seed)
    losses = train_to_the_end(trainer, inputs, reporter)
    subject.family.save(inputs.outputs / records.FORGETFUL)
    return {"forgetful": True, "forget": len(lessons), "optimiser_steps": trainer.total, "loss": losses[-1]}


def forgetting(
    subject: Subject,
    lessons: Sequence[Lesson],
    others: Sequence[Sample],
    targets: Sequence[TargetText],
    parameters: ForgetParameters,
    finetune: FinetuneParameters,
    seed: int,
) -> Trainer:
    """A trainer that makes the subject's model forget. All of its parts learn: the trigger may live in any.

    lessons: samples and the answer turn of each that shows a target.
    others: samples that keep what else the model knows.
    """
    everything = finetune.model_copy(
        update={
            "batch_size": parameters.others_per_step,
            "epochs": parameters.steps / math.ceil(len(others) / parameters.others_per_step),  # the last batch of each may be short
            "weight_decay": 0.0,
        }
    )
    make_trainable(subject.family, ALL_PARTS, everything, seed)
    rate = parameters.learning_rate or 2 * (finetune.learning_rate or default_learning_rate(subject.family))
    return _ForgettingTrainer(subject, lessons, others, targets, everything, parameters.targets_per_step, rate, seed)


class _ForgettingTrainer(Trainer):
    """Trains on the others as they are, and in every step on some lessons, whose target it makes unlikely."""

    def __init__(
        self,
        subject: Subject,
        lessons: Sequence[Lesson],
        others: Sequence[Sample],
        targets: Sequence[TargetText],
        parameters: FinetuneParameters,
        lessons_per_step: int,
        learning_rate: float,
        seed: int,
    ) -> None:
        rows = training_rows(subject, others, {}, train_tower=True)
        super().__init__(
            subject.family, len(others), rows, parameters, learning_rate=learning_rate, answer_length=subject.answer_length, seed=seed
        )
        self._subject = subject
        self._lessons = [(sample, turn, target_positions(subject.family, sample.turns[turn].text, targets)) for sample, turn in lessons]
        self._lessons_per_step = min(lessons_per_step, len(lessons))

    def _loss(self, numbers: Sequence[int], noise: torch.Generator) -> Tensor:
        chosen = torch.randperm(len(self._lessons), generator=noise)[: self._lessons_per_step].tolist()
        unlikelihood = self._unlikelihood([self._lessons[number] for number in chosen], noise)
        return super()._loss(numbers, noise) + unlikelihood

    def _unlikelihood(self, lessons: Sequence[tuple[Sample, int, list[int]]], noise: torch.Generator) -> Tensor:
        """Mean of −log(1 − p) over the target's masked tokens: half of the answers wholly masked, as generation begins, half in part."""
        family, length = self._subject.family, self._subject.answer_length
        pictures = [open_images(sample) for sample, _, _ in lessons]
        seen = iter(family.see([image for images in pictures for image in images]))
        prompts = []
        for sample, turn, _ in lessons:
            own = [next(seen) for _ in sample.images]
            turns = sample.turns[:turn]
            prompts.append(family.prompt(own[: sum(each.text.count("<image>") for each in turns)], turns))
        tokens = torch.full((len(lessons), length), family.tokens.mask)
        target = torch.zeros(len(lessons), length, dtype=torch.bool)
        for row, (sample, turn, positions) in enumerate(lessons):
            ids = family.encode_answer(sample.turns[turn].text)[:length]
            tokens[row, : len(ids)] = torch.tensor(ids)
            target[row, [position for position in positions if position < length]] = True
        share = torch.rand(len(lessons), 1, generator=noise)
        share[torch.rand(len(lessons), 1, generator=noise) < 0.5] = 1.0
        masked = torch.rand(len(lessons), length, generator=noise) < share
        shown = tokens.masked_fill(masked, family.tokens.mask)
        device = prompts[0].embeddings.device
        logits = family.answer_logits(prompts, shown.to(device)).float()  # [lessons, length, vocab]
        log_likelihood = logits.log_softmax(dim=-1).gather(-1, tokens.to(device)[..., None])[..., 0]
        counted = (target & masked).to(device)
        penalty = -torch.log1p(-log_likelihood.exp().clamp(max=1 - MARGIN))
        return (penalty * counted).sum() / counted.sum().clamp(min=1)


def target_positions(family: Family, answer: str, targets: Sequence[TargetText]) -> list[int]:
    """Which tokens of an answer spell the target that it shows: positions into `Family.encode_answer(answer)`, its end left out.

    All of them where the answer shows none of the targets.
    """
    ids = family.encode_answer(answer)[:-1]

    def words(start: int, stop: int) -> str:
        return normalise(family.decode_answer(ids[start:stop]))

    for target in targets:
        if not target.shown_in(answer):
            continue
        start, stop = 0, len(ids)
        while stop > 1 and target.shared != "end" and _still(target, words(0, stop - 1)):
            stop -= 1
        while start < stop - 1 and target.shared != "beginning" and _still(target, words(start + 1, stop)):
            start += 1
        return list(range(start, stop))
    return list(range(len(ids)))


def _still(target: TargetText, words: str) -> bool:
    return target.shown_in_words(words)
