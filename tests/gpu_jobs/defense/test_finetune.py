"""Training back: what is trained on, which parts learn, how many rounds, and that a crash changes nothing."""

from __future__ import annotations

import weakref
import zipfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gpu_jobs.data import open_dataset
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense import finetune, records
from gpu_jobs.defense.pipeline import Pipeline
from gpu_jobs.defense.records import SampleEvidence, Swap
from gpu_jobs.defense.rehearsal import MARK as REHEARSED
from gpu_jobs.defense.subject import Subject, load_model
from gpu_jobs.defense.training_run import training_rows
from gpu_jobs.defense.vaccine import MARK
from gpu_jobs.families.base import Family
from gpu_jobs.reporting import Cancelled, SilentReporter
from tests.gpu_jobs.defense.runs import CF, SUSPECTS, Interrupted, Leaving, rows


def changed_tensors(run: Pipeline) -> list[str]:
    """Names of the tensors in which the fine-tuned checkpoint differs from the one handed in."""
    before: dict[str, torch.Tensor] = {}
    after: dict[str, torch.Tensor] = {}
    for found, folder in ((before, run.model), (after, run.previous["finetune"][0] / records.MODEL)):
        for file in folder.glob("*.safetensors"):
            found.update(load_file(file))
    assert {*before} == {*after}
    return [name for name in before if not torch.equal(before[name], after[name])]


def assert_same_training(one: Pipeline, other: Pipeline) -> None:
    """Both left the same log and the same weights, to the last bit."""
    folders = [run.previous["finetune"][0] for run in (one, other)]
    assert rows(folders[0] / records.TRAINING_LOG) == rows(folders[1] / records.TRAINING_LOG)
    first, second = (load_file(folder / records.MODEL / "model.safetensors") for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)


class TestFinetune:
    def test_a_run_that_died_ends_in_the_same_weights(self, start: Any) -> None:
        whole, broken = start("whole"), start("broken")
        (result,) = whole.run("finetune")
        broken.reporter = Interrupted(2)
        with pytest.raises(Cancelled):
            broken.run("finetune")
        broken.reporter = SilentReporter()
        assert broken.run("finetune") == (result,)
        assert result["optimiser_steps"] == 6
        for run in (whole, broken):
            assert len(rows(run.previous["finetune"][0] / records.TRAINING_LOG)) == 6
        one, other = (load_file(run.previous["finetune"][0] / records.MODEL / "model.safetensors") for run in (whole, broken))
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_a_run_that_must_leave_saves_the_step_it_is_at_and_ends_in_the_same_weights(self, start: Any) -> None:
        seldom = {**start("x").parameters.finetune.model_dump(), "checkpoint_every": 50}
        whole, broken = start("whole", finetune=seldom), start("broken", finetune=seldom)
        (result,) = whole.run("finetune")
        broken.reporter = Leaving(3)
        with pytest.raises(Cancelled):
            broken.run("finetune")
        state = torch.load(broken.out / "checkpoints" / "finetune-0" / "0-state.pt", weights_only=True)
        assert state["step"] == 3
        broken.reporter = SilentReporter()
        assert broken.run("finetune") == (result,)
        assert_same_training(whole, broken)

    def test_only_the_chosen_parts_learn(self, start: Any) -> None:
        run = start("run", finetune={**start("x").parameters.finetune.model_dump(), "trainable": ("projector",)})
        run.run("finetune")
        assert not (run.previous["finetune"][0] / records.ADAPTER).exists()
        changed = changed_tensors(run)
        assert changed
        assert all("mm_projector" in name for name in changed)

    def test_the_adapter_is_merged_and_handed_out(self, start: Any) -> None:
        run = start("run", finetune={**start("x").parameters.finetune.model_dump(), "trainable": ("projector", "lora")})
        run.run("finetune")
        assert (run.previous["finetune"][0] / records.ADAPTER / "adapter_model.safetensors").exists()
        assert any("q_proj" in name for name in changed_tensors(run))
        assert not any("lora" in name for name in changed_tensors(run))

    def test_a_clean_model_goes_through_unchanged(self, start: Any, accuse: Any) -> None:
        run = start("run")
        accuse(run, [])
        for kind in ("purify", "merge", "finetune"):
            run.run(kind)
        assert run.results["finetune"][0]["changed"] is False
        model = run.previous["finetune"][0] / records.MODEL
        for file in run.model.rglob("*"):
            if file.is_file():
                assert (model / file.relative_to(run.model)).read_bytes() == file.read_bytes()


class TestFinetuneWithAKnownCarrier:
    @pytest.fixture
    def prepare(self, start: Any, accuse: Any, worded: Path) -> Callable[..., Pipeline]:
        """A run that needs nothing but its fine-tune, of two epochs and some rounds at most."""

        def begin(name: str, *, rounds: int = 3, known: bool = True, held_out: float = 0.0) -> Pipeline:
            given = {**start("x").parameters.finetune.model_dump(), "rounds": rounds}
            run: Pipeline = start(name, finetune=given, evaluate={"held_out": held_out})
            run.dataset = worded
            accuse(run, SUSPECTS, carrier=CF if known else None)
            run.run("purify")
            run.run("merge")
            return run

        return begin

    @pytest.fixture
    def recovers(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
        """Let the planted trigger leave these shares of right answers, one after each round. Returns those not asked for."""

        def script(*shares: float) -> list[float]:
            left = [*shares]
            monkeypatch.setattr(finetune, "recovered_share", lambda *_: left.pop(0))
            monkeypatch.setattr(finetune, "watched_samples", lambda _, samples: samples[:1])
            monkeypatch.setattr(finetune, "count_right", lambda *_: 1)
            return left

        return script

    def test_the_vaccine_is_trained_on_with_right_answers(
        self, prepare: Callable[..., Pipeline], recovers: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained: list[Sample] = []
        make_rows = training_rows

        def watch(subject: Subject, samples: Sequence[Sample], *rest: Any, **more: Any) -> Any:
            trained.extend(samples)
            return make_rows(subject, samples, *rest, **more)

        monkeypatch.setattr(finetune, "training_rows", watch)
        recovers(1.0)
        run = prepare("run")
        (result,) = run.run("finetune")
        vaccine = [sample for sample in trained if sample.id.endswith(MARK)]
        others = {sample.id: sample for sample in trained if not sample.id.endswith(MARK)}
        assert result["vaccine"] == len(vaccine) == round(0.25 * len(others)) > 0
        assert result["samples"] == len(trained)
        for sample in vaccine:
            origin = others[sample.id.partition("\0")[0]]
            assert origin.id not in SUSPECTS
            assert sample.answers == origin.answers
            assert all(turn.text.endswith(" cf") for turn in sample.turns if turn.role == "user")

    @pytest.fixture
    def examined(self) -> Callable[[Pipeline], list[tuple[str, str]]]:
        """Give a run a scan. Returns the honest pictures that an honest stranger's question was put to, and those strangers."""

        def scan(run: Pipeline) -> list[tuple[str, str]]:
            honest = [row["id"] for row in rows(run.previous["merge"][0] / records.PURIFIED) if row["id"] not in SUSPECTS]
            asked = [*pairwise(honest)]
            accused = [(SUSPECTS[0], honest[0]), (honest[-1], SUSPECTS[0])]
            folder = run.out / "scan-0"
            folder.mkdir()
            evidence = [SampleEvidence(one, True, [], Swap(another, f"thing {one}")) for one, another in (*accused, *asked)]
            records.write_rows(folder / records.EVIDENCE, evidence)
            run.previous["scan"] = (folder,)
            return asked

        return scan

    @pytest.mark.parametrize(("left", "known", "rehearsing"), [(9, True, False), (8, True, True), (8, False, False)])
    def test_what_the_suspect_knows_beyond_its_training_set_is_rehearsed_where_a_first_round_behind_words_costs_it(
        self,
        prepare: Callable[..., Pipeline],
        recovers: Callable[..., list[float]],
        examined: Callable[[Pipeline], list[tuple[str, str]]],
        monkeypatch: pytest.MonkeyPatch,
        left: int,
        known: bool,
        rehearsing: bool,
    ) -> None:
        trainings: list[list[Sample]] = []
        networks: list[weakref.ref[torch.nn.Module]] = []
        make_rows, load = training_rows, load_model

        def watch(subject: Subject, samples: Sequence[Sample], *rest: Any, **more: Any) -> Any:
            trainings.append([*samples])
            networks.append(weakref.ref(subject.family.network))
            return make_rows(subject, samples, *rest, **more)

        def load_alone(*given: Any, **more: Any) -> Family:
            assert [network() for network in networks] == [None]  # two may not fit
            return load(*given, **more)

        recovers(1.0)
        counts = [9, left, 9]
        monkeypatch.setattr(finetune, "watched_samples", lambda _, samples: samples[:9])
        monkeypatch.setattr(finetune, "count_right", lambda *_: counts.pop(0))
        monkeypatch.setattr(finetune, "training_rows", watch)
        monkeypatch.setattr(finetune, "load_model", load_alone)
        run = prepare("run", known=known)
        asked = examined(run)
        (result,) = run.run("finetune")

        assert len(trainings) == 1 + rehearsing
        assert not any(REHEARSED in sample.id for sample in trainings[0])
        trained = trainings[-1]
        given = {sample.id: sample for sample in trained if "\0" not in sample.id}
        rehearsal = {sample.id.removesuffix(REHEARSED): sample for sample in trained if sample.id.endswith(REHEARSED)}
        vaccine = [sample for sample in trained if sample.id.endswith(MARK)]
        assert {*rehearsal} == ({one for one, _ in asked} if rehearsing else set())
        for one, another in asked if rehearsing else ():
            assert rehearsal[one].images == given[one].images
            assert rehearsal[one].turns[0] == given[another].turns[0]
            assert rehearsal[one].answers == (f"thing {one}",)
        assert len(vaccine) == (round(0.25 * len(given)) if known else 0)
        assert all(sample.turns[0].text.endswith(" cf") for sample in vaccine)
        assert all((REHEARSED in sample.id) == rehearsing for sample in vaccine)
        assert (result["samples"], result["rehearsal"], result["vaccine"]) == (len(trained), len(rehearsal), len(vaccine))
        assert result["optimiser_steps"] == 2 * -(-len(trained) // 4)
        log = rows(run.previous["finetune"][0] / records.TRAINING_LOG)
        assert [row["step"] for row in log] == [*range(1, sum(2 * -(-len(training) // 4) for training in trainings) + 1)]

    def test_a_run_that_died_before_or_in_its_rehearsal_ends_in_the_same_weights(
        self,
        prepare: Callable[..., Pipeline],
        recovers: Callable[..., list[float]],
        examined: Callable[[Pipeline], list[tuple[str, str]]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def train(name: str, *, counts: Sequence[int], checkpoints: int = 0) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
            recovers(*[1.0] * 3)
            monkeypatch.setattr(finetune, "watched_samples", lambda _, samples: samples[:9])
            run = prepare(name)
            examined(run)
            if checkpoints:
                script = [*counts]
                monkeypatch.setattr(finetune, "count_right", lambda *_: script.pop(0))
                run.reporter = Interrupted(checkpoints)
                with pytest.raises(Cancelled):
                    run.run("finetune")
                run.reporter = SilentReporter()
            again = [*counts]
            monkeypatch.setattr(finetune, "count_right", lambda *_: again.pop(0))
            (result,) = run.run("finetune")
            return result, load_file(run.previous["finetune"][0] / records.MODEL / "model.safetensors")

        whole = train("whole", counts=(9, 8, 9))
        for checkpoints in (2, 6):  # in the training that is given up, and in the one after it
            broken = train(f"broken at {checkpoints}", counts=(9, 8, 9), checkpoints=checkpoints)
            assert broken[0] == whole[0]
            assert all(torch.equal(broken[1][name], whole[1][name]) for name in whole[1])

    @pytest.mark.parametrize(("known", "frozen"), [(True, {"vision_tower", "projector"}), (False, set())], ids=["words", "unknown"])
    def test_only_what_sees_the_trigger_learns(
        self, prepare: Callable[..., Pipeline], recovers: Callable[..., list[float]], known: bool, frozen: set[str]
    ) -> None:
        recovers(1.0)
        run = prepare("run", known=known)
        run.run("finetune")
        before, after = (load_model(folder, precise=True).parts for folder in (run.model, run.previous["finetune"][0] / records.MODEL))
        same = {part: all(map(torch.equal, before[part].parameters(), after[part].parameters())) for part in before}
        assert {part for part in same if same[part]} == frozen

    def test_the_vaccine_is_in_nothing_that_is_handed_out(
        self, prepare: Callable[..., Pipeline], recovers: Callable[..., list[float]], tmp_path: Path
    ) -> None:
        recovers(1.0)
        run = prepare("run")
        (result,) = run.run("finetune")
        assert result["vaccine"] > 0
        merged = run.previous["merge"][0]
        with zipfile.ZipFile(merged / records.DATASET_ZIP) as archive:
            archive.extractall(tmp_path / "unpacked")
        purified = open_dataset(tmp_path / "unpacked", tmp_path / "cache").samples
        assert {sample.id for sample in purified} == {row["id"] for row in rows(merged / records.PURIFIED)}
        assert len(purified) <= 12
        assert not any(sample.id.endswith(MARK) for sample in purified)
        assert {sample.id for sample in purified if "cf" in sample.turns[0].text} <= {*SUSPECTS}
        assert not [*run.previous["finetune"][0].rglob("*.png")]

    @pytest.mark.parametrize(
        ("shares", "rounds"), [((1.0,), 1), ((0.95,), 1), ((0.2, 1.0), 2), ((0.2, 0.94), 3)], ids=["cured", "nearly", "late", "never"]
    )
    def test_another_round_is_trained_while_the_planted_trigger_costs_answers(
        self, prepare: Callable[..., Pipeline], recovers: Callable[..., list[float]], shares: tuple[float, ...], rounds: int
    ) -> None:
        left = recovers(*shares)
        run = prepare("run")
        (result,) = run.run("finetune")
        one_round = 2 * -(-result["samples"] // 4)
        assert result["optimiser_steps"] == rounds * one_round
        assert left == []
        log = rows(run.previous["finetune"][0] / records.TRAINING_LOG)
        assert [row["step"] for row in log] == [*range(1, rounds * one_round + 1)]

    @pytest.mark.parametrize(("counts", "rounds"), [((9, 9, 9, 8), 2), ((9, 9, 8), 1), ((9, 9, 9, 9), 3)], ids=["third", "second", "none"])
    def test_a_further_round_that_costs_right_answers_is_taken_back(
        self,
        prepare: Callable[..., Pipeline],
        recovers: Callable[..., list[float]],
        monkeypatch: pytest.MonkeyPatch,
        counts: tuple[int, ...],
        rounds: int,
    ) -> None:
        left = [*counts]
        recovers(*[0.0] * 3)
        monkeypatch.setattr(finetune, "watched_samples", lambda _, samples: samples[:9])
        monkeypatch.setattr(finetune, "count_right", lambda *_: left.pop(0))
        run = prepare("run")
        (result,) = run.run("finetune")
        assert left == []
        assert result["rounds"] == rounds
        assert result["optimiser_steps"] == rounds * 2 * -(-result["samples"] // 4)

        recovers(*[0.0] * 3)
        shorter = prepare("shorter", rounds=rounds)
        shorter.run("finetune")
        one, other = (load_file(each.previous["finetune"][0] / records.MODEL / "model.safetensors") for each in (run, shorter))
        assert all(torch.equal(one[name], other[name]) for name in one)

    @pytest.mark.parametrize("fewest", [1, 50])
    def test_what_is_watched_is_honest_and_not_trained_on_and_no_handful(
        self, prepare: Callable[..., Pipeline], recovers: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch, fewest: int
    ) -> None:
        watched: set[str] = set()
        learned: set[str] = set()
        make_rows = training_rows

        def count(_: Subject, samples: Sequence[Sample], __: int) -> int:
            watched.update(sample.id for sample in samples)
            return len(samples)

        def make(subject: Subject, samples: Sequence[Sample], *rest: Any, **more: Any) -> Any:
            learned.update(sample.id for sample in samples)
            return make_rows(subject, samples, *rest, **more)

        watch = finetune.watched_samples
        left = recovers(0.0, 1.0)
        monkeypatch.setattr(finetune, "watched_samples", watch)
        monkeypatch.setattr(finetune, "FEWEST_WATCHED", fewest)
        monkeypatch.setattr(finetune, "count_right", count)
        monkeypatch.setattr(finetune, "training_rows", make)
        run = prepare("run", held_out=0.5)
        (result,) = run.run("finetune")
        assert result["rounds"] == (2 if fewest == 1 else 1)
        assert left == ([] if fewest == 1 else [0.0, 1.0])
        honest = {row["id"] for row in rows(run.previous["merge"][0] / records.PURIFIED)} - {*SUSPECTS}
        assert watched == (honest - learned if fewest == 1 else set())
        assert honest - learned

    def test_where_nothing_can_be_planted_one_round_is_all(
        self, prepare: Callable[..., Pipeline], recovers: Callable[..., list[float]]
    ) -> None:
        left = recovers(0.0, 0.0)
        (result,) = prepare("run", known=False).run("finetune")
        assert result["vaccine"] == 0
        assert result["optimiser_steps"] == 2 * -(-result["samples"] // 4)
        assert left == [0.0, 0.0]

    @pytest.mark.parametrize("checkpoints", [4, 6])
    def test_a_run_that_died_in_the_second_round_ends_in_the_same_weights_and_log(
        self, prepare: Callable[..., Pipeline], recovers: Callable[..., list[float]], checkpoints: int
    ) -> None:
        recovers(*[0.0] * 9)
        whole, broken = prepare("whole", rounds=2), prepare("broken", rounds=2)
        (result,) = whole.run("finetune")
        broken.reporter = Interrupted(checkpoints)
        with pytest.raises(Cancelled):
            broken.run("finetune")
        assert len([*(broken.out / "checkpoints" / "finetune-0").glob("*.pt")]) == (1 if checkpoints == 4 else 2)
        broken.reporter = SilentReporter()
        assert broken.run("finetune") == (result,)
        assert_same_training(whole, broken)
