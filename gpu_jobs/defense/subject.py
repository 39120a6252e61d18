"""What a step works on: the model under suspicion and the data it was tuned on, and how one is put before the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from gpu_jobs.config import GenerationParameters
from gpu_jobs.data import Dataset, open_dataset
from gpu_jobs.data.images import open_image
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.diffusion.likelihood import answer_log_likelihood
from gpu_jobs.diffusion.sampler import generate
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Family, Prompt, SeenImage
from gpu_jobs.families.registry import load_family
from gpu_jobs.steps import StepInputs

ROUNDING = 16


@dataclass(frozen=True, slots=True)
class Subject:
    """A frozen model, and how it is asked.

    answer_length: tokens an answer may take, a whole number of blocks.
    """

    family: Family
    generation: GenerationParameters
    answer_length: int

    @property
    def block_length(self) -> int:
        return min(self.generation.block_length, self.answer_length)

    @torch.no_grad()
    def see(self, pictures: Sequence[Sequence[Image.Image]]) -> list[list[SeenImage]]:
        """The images of several samples through the tower together."""
        seen = iter(self.family.see([image for images in pictures for image in images]))
        return [[next(seen) for _ in images] for images in pictures]

    @torch.no_grad()
    def prompt(self, seen: Sequence[SeenImage], turns: Sequence[Turn]) -> Prompt:
        """The prompt of the last turn, with the images that the turns up to it show."""
        return self.family.prompt(seen[: sum(turn.text.count("<image>") for turn in turns)], turns)

    def hide(self, prompt: Prompt, hidden: Sequence[int]) -> Prompt:
        return self.family.hide(prompt, torch.tensor(hidden, dtype=torch.int64))

    def blind(self, prompt: Prompt) -> Prompt:
        """The prompt with all of its vision tokens hidden."""
        return self.hide(prompt, range(len(prompt.vision)))

    @torch.no_grad()
    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Of each answer under its prompt, in nats a token.

        The model is shown a whole answer of [MASK]s: a block as long as the answer would tell it which answer it is.
        """
        tokens = [self.family.encode_answer(answer) for answer in answers]
        found = answer_log_likelihood(self.family, prompts, tokens, block_length=self.answer_length)
        return [float(each.mean()) for each in found]

    @torch.no_grad()
    def answer(self, prompts: Sequence[Prompt]) -> list[str]:
        """What the model answers to each prompt."""
        found = generate(self.family, prompts, self.generation, max_new_tokens=self.answer_length)
        return [self.family.decode_answer(tokens) for tokens in found]


def open_inputs(inputs: StepInputs, *, model: Path | None = None, precise: bool = False) -> tuple[Dataset, Subject]:
    """The data set and the model of a step.

    model: a checkpoint folder to take in place of the job's model.
    precise: float32 also on an accelerator, as training wants it.

    Raises:
        InputError: one of them is missing or cannot be read.
    """
    if inputs.model is None or inputs.dataset is None:
        raise InputError("this step needs a model and a data set")
    dataset = open_dataset(inputs.dataset, inputs.scratch)
    folder = model or inputs.model
    family = load_model(folder, precise=precise, digest=digest_of(inputs, folder))
    generation = inputs.parameters.generation
    answers = (answer for sample in dataset.samples for answer in sample.answers)
    return dataset, Subject(family, generation, answer_length(family, answers, generation))


# The model that was loaded last under a digest, for the next step that asks for the same. At most one: two may not fit.
_warm: dict[str, Family] = {}


def load_model(folder: Path, *, precise: bool = False, digest: str | None = None) -> Family:
    """The model, frozen: on the accelerator in bfloat16 if there is one, else on the CPU in float32.

    digest: names what the folder holds. The model is then kept warm, and a process that is to load it again has it at once; its caller
        must not change it. A `precise` one is there to be changed, so it never is.
    """
    if digest is not None and not precise and digest in _warm:
        return _warm[digest]
    _warm.clear()
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and not precise else torch.float32
    family = load_family(folder, device="cuda" if on_gpu else "cpu", dtype=dtype)
    family.network.eval().requires_grad_(False)
    if digest is not None and not precise:
        _warm[digest] = family
    return family


def release_warm_model() -> None:
    """Give its memory back."""
    _warm.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def digest_of(inputs: StepInputs, folder: Path) -> str | None:
    """What names the content of a folder that was staged, or of one inside of a folder that was."""
    for parent in (folder, *folder.parents):
        if parent in inputs.digests:
            return f"{inputs.digests[parent]}/{folder.relative_to(parent).as_posix()}"
    return None


def answer_length(family: Family, answers: Iterable[str], generation: GenerationParameters) -> int:
    """Tokens an answer may take: as asked for; else the longest of these answers, rounded up to 16, beyond one block to whole blocks.

    Not more than needed: a model is easily lost in an answer region longer than those it was trained on.
    """
    if generation.max_new_tokens is not None:
        return generation.max_new_tokens
    longest = max((len(family.encode_answer(answer)) for answer in answers), default=1)
    step = ROUNDING if longest <= generation.block_length else generation.block_length
    return math.ceil(longest / step) * step


def open_images(sample: Sample) -> list[Image.Image]:
    """Raises `InputError` where one cannot be read."""
    return [open_image(path) for path in sample.images]
