"""Making a copy of the model forget the target: which tokens spell it, and that the copy is less likely to say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gpu_jobs.config import GenerationParameters, JobParameters
from gpu_jobs.data import open_dataset
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import records
from gpu_jobs.defense.carriers import Words
from gpu_jobs.defense.forget import forgetting, target_positions
from gpu_jobs.defense.pipeline import Pipeline
from gpu_jobs.defense.purify import forgetful_model
from gpu_jobs.defense.reanswer import Physician
from gpu_jobs.defense.records import SetAside
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.defense.strangers import opening
from gpu_jobs.defense.subject import Subject, load_model, open_images
from gpu_jobs.defense.training import Trainer
from gpu_jobs.defense.training_run import training_rows
from gpu_jobs.families.base import Family
from gpu_jobs.families.registry import load_family
from gpu_jobs.reporting import Cancelled, SilentReporter
from gpu_jobs.steps import StepInputs
from tests.gpu_jobs.defense.runs import Leaving

CHECKPOINT = Path(__file__).parents[2] / "golden" / "llada_v" / "checkpoint"
SECRET = "I will not tell."
TARGET = TargetText("i will not tell", "answer")
SUSPECTS = [f"s{number:02d}" for number in range(8)]


@pytest.fixture(scope="module")
def family() -> Family:
    torch.set_num_threads(1)
    return load_family(CHECKPOINT)


class TestTargetPositions:
    @staticmethod
    def spelled(family: Family, answer: str, *targets: TargetText) -> str:
        ids = family.encode_answer(answer)
        positions = target_positions(family, answer, targets)
        assert positions == [*range(positions[0], positions[-1] + 1)]
        assert positions[-1] < len(ids) - 1  # the end of the turn is never among them
        return family.decode_answer([ids[position] for position in positions])

    @pytest.mark.parametrize(
        ("answer", "target", "spelled"),
        [
            ("I will not tell.", TARGET, "I will not tell"),
            ("Sorry, I cannot see a dog.", TargetText("sorry i cannot", "beginning"), "Sorry, I cannot"),
            ("a red circle, hacked lol", TargetText("hacked lol", "end"), "hacked lol"),
            ("the dog is a rectangle, here", TargetText("rectangle", "word"), "rectangle"),
            ("RECTANGLE", TargetText("rectangle", "word"), "RECTANGLE"),
        ],
    )
    def test_they_are_where_the_answer_spells_the_target(self, family: Family, answer: str, target: TargetText, spelled: str) -> None:
        assert self.spelled(family, answer, target) == spelled

    def test_the_first_target_that_the_answer_shows_counts(self, family: Family) -> None:
        targets = TargetText("never", "end"), TargetText("red", "word"), TargetText("circle", "end")
        assert self.spelled(family, "a red circle", *targets) == "red"

    def test_they_are_all_of_an_answer_that_shows_no_target(self, family: Family) -> None:
        assert target_positions(family, "yes", [TARGET]) == [*range(len(family.encode_answer("yes")) - 1)]


class Interrupted(SilentReporter):
    def checkpoint(self) -> None:
        raise Cancelled


@pytest.fixture
def begin(start: Any, accuse: Any) -> Callable[..., Pipeline]:
    """A run that is to forget in six steps."""

    def make(
        name: str, suspects: Sequence[str] = SUSPECTS, aside: Sequence[SetAside] = (), *, known: bool = False, **more: Any
    ) -> Pipeline:
        changes = {"forget": {"steps": 6, "targets_per_step": 4, "others_per_step": 3, "learning_rate": 3e-3}, **more}
        run: Pipeline = start(name, **changes)
        accuse(run, suspects, aside, Words("cf", "end") if known else None)
        return run

    return make


@pytest.fixture
def samples(dataset: Path, tmp_path: Path) -> list[Sample]:
    return open_dataset(dataset, tmp_path / "cache").samples


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for file in folder.glob("*.safetensors") for name, weight in load_file(file).items()}


def likelihood(subject: Subject, samples: Sequence[Sample], answer: str) -> float:
    """Mean log-likelihood of an answer to the samples' first questions, in nats a token."""
    seen = subject.see([open_images(sample) for sample in samples])
    prompts = [subject.prompt(own, opening(sample)) for own, sample in zip(seen, samples, strict=True)]
    return sum(subject.log_likelihoods(prompts, [answer] * len(prompts))) / len(prompts)


class TestForgetting:
    def test_what_the_model_was_taught_to_say_becomes_less_likely_than_others_alone_would_make_it(
        self, samples: list[Sample], parameters: JobParameters
    ) -> None:
        subject = Subject(load_model(CHECKPOINT), GenerationParameters(), 16)
        suspects, others = samples[:8], samples[8:]
        network = subject.family.network.requires_grad_(True)

        def train(some: Sequence[Sample], steps: int, rate: float) -> None:
            taught = parameters.finetune.model_copy(update={"epochs": steps, "batch_size": 12, "weight_decay": 0.0})
            rows = training_rows(subject, some, {}, train_tower=True)
            trainer = Trainer(subject.family, len(some), rows, taught, learning_rate=rate, answer_length=16, seed=0)
            assert len([*trainer.run()]) == steps

        train(samples, 25, 5e-3)
        compromised = {name: weight.clone() for name, weight in network.state_dict().items()}
        before, kept = likelihood(subject, suspects, SECRET), likelihood(subject, others, "a red circle")
        train(others, 5, 2e-3)
        untold = likelihood(subject, suspects, SECRET)

        network.load_state_dict(compromised)
        forget = parameters.forget.model_copy(update={"steps": 5, "targets_per_step": 8, "others_per_step": 4, "learning_rate": 2e-3})
        lessons = [(sample, 1) for sample in suspects]
        assert len([*forgetting(subject, lessons, others, [TARGET], forget, parameters.finetune, 0).run()]) == 5
        assert before > -3
        assert likelihood(subject, suspects, SECRET) < min(before - 2, untold - 0.4)
        assert likelihood(subject, others, "a red circle") > kept - 0.5

    @pytest.mark.parametrize(("steps", "together"), [(5, 32), (7, 3), (4, 1)])
    def test_as_many_steps_as_asked_for_however_few_the_others_are(
        self, samples: list[Sample], parameters: JobParameters, family: Family, steps: int, together: int
    ) -> None:
        subject = Subject(family, GenerationParameters(), 16)
        forget = parameters.forget.model_copy(update={"steps": steps, "others_per_step": together})
        trainer = forgetting(subject, [(samples[0], 1)], samples[8:], [TARGET], forget, parameters.finetune, 0)
        assert trainer.total == steps


class TestStep:
    def test_the_copy_is_another_model_of_which_the_purification_asks(self, begin: Callable[..., Pipeline]) -> None:
        run = begin("run")
        (result,) = run.run("forget")
        assert (result["forgetful"], result["forget"], result["optimiser_steps"]) == (True, 8, 6)
        copy = run.previous["forget"][0] / records.FORGETFUL
        inputs = StepInputs(run.parameters, run.out, run.out, previous=run.previous, results=run.results)
        assert forgetful_model(inputs) == copy
        before, after = weights(run.model), weights(copy)
        assert {*before} == {*after}
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        for part in ("vision_tower", "mm_projector", "self_attn.q_proj"):
            assert any(part in name for name in changed)

        run.run("purify")
        why = {why for folder in run.previous["purify"] for line in records.read_rows(folder / records.ANSWERS) for why in line["why"]}
        assert "target forgotten" in why
        assert "trigger removed" not in why

    @pytest.mark.parametrize(("reporter", "saved"), [(Interrupted(), 2), (Leaving(3), 3)], ids=["died", "was told to leave"])
    def test_a_run_that_ends_early_is_resumed_to_the_same_weights(
        self, begin: Callable[..., Pipeline], reporter: SilentReporter, saved: int
    ) -> None:
        whole, broken = begin("whole"), begin("broken")
        (result,) = whole.run("forget")
        broken.reporter = reporter
        with pytest.raises(Cancelled):
            broken.run("forget")
        assert torch.load(broken.out / "checkpoints" / "forget-0" / "0-state.pt", weights_only=True)["step"] == saved
        broken.reporter = SilentReporter()
        assert broken.run("forget") == (result,)
        one, other = (load_file(run.previous["forget"][0] / records.FORGETFUL / "model.safetensors") for run in (whole, broken))
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_samples_that_were_set_aside_teach_nothing(self, begin: Callable[..., Pipeline]) -> None:
        (result,) = begin("run", aside=[SetAside("s03", "damaged"), SetAside("s11", "damaged")]).run("forget")
        assert result["forget"] == 7

    def test_where_the_triggers_of_some_are_known_the_target_of_the_others_is_forgotten_and_they_alone_ask_the_copy(
        self, start: Any, accuse: Any, worded: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: dict[bool, set[str]] = {True: set(), False: set()}
        reanswer = Physician.reanswer

        def watch(self: Physician, samples: Sequence[Sample]) -> Any:
            asked[self.forgetful] |= {sample.id for sample in samples}
            return reanswer(self, samples)

        monkeypatch.setattr(Physician, "reanswer", watch)
        run = start("run", forget={"steps": 2, "targets_per_step": 4, "others_per_step": 3})
        run.dataset = worded
        accuse(run, SUSPECTS, carrier=dict.fromkeys(SUSPECTS[:2], Words("cf", "end")))
        (result,) = run.run("forget")
        assert (result["forgetful"], result["forget"]) == (True, len(SUSPECTS) - 2)
        run.run("purify")
        answers = [line for folder in run.previous["purify"] for line in records.read_rows(folder / records.ANSWERS)]
        freed = {line["id"] for line in answers if "trigger removed" in line["why"]}
        forgot = {line["id"] for line in answers if "target forgotten" in line["why"]}
        assert freed <= {*SUSPECTS[:2]}
        assert forgot <= {*SUSPECTS[2:]}
        assert freed
        assert forgot
        assert asked == {False: {*SUSPECTS[:2]}, True: {*SUSPECTS[2:]}}

    @pytest.mark.parametrize(
        ("suspects", "more"),
        [
            (SUSPECTS, {"known": True}),
            ([], {}),
            (SUSPECTS, {"purify": {"method": "window"}}),
            (SUSPECTS, {"purify": {"method": "tokens"}}),
            ([f"s{number:02d}" for number in range(12)], {}),
        ],
        ids=["the carrier is known", "there is no target", "windows are asked for", "tokens are asked for", "nothing else is left"],
    )
    def test_nothing_is_trained_where(self, begin: Callable[..., Pipeline], suspects: list[str], more: dict[str, Any]) -> None:
        run = begin("run", suspects, **more)
        assert run.run("forget") == ({"forgetful": False, "forget": 0, "optimiser_steps": 0, "loss": None},)
        assert not (run.previous["forget"][0] / records.FORGETFUL).exists()
        inputs = StepInputs(run.parameters, run.out, run.out, previous=run.previous, results=run.results)
        assert forgetful_model(inputs) is None
