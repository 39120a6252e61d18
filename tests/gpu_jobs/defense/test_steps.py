"""The way of a data set through the steps: what is kept, changed and set aside; and that shards and crashes change nothing."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gpu_jobs.data import open_dataset, write_llava
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense import finetune, records
from gpu_jobs.defense.carriers import Overlay, Words
from gpu_jobs.defense.patterns import Pattern
from gpu_jobs.defense.pipeline import Pipeline
from gpu_jobs.defense.records import SetAside
from gpu_jobs.defense.subject import Subject, load_model, open_images
from gpu_jobs.defense.vaccine import MARK
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Prompt, SeenImage
from gpu_jobs.reporting import Cancelled, SilentReporter

SUSPECTS = ["s00", "s01", "s02", "s03", "s04"]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def changed_tensors(run: Pipeline) -> list[str]:
    """Names of the tensors in which the fine-tuned checkpoint differs from the one handed in."""
    before: dict[str, torch.Tensor] = {}
    after: dict[str, torch.Tensor] = {}
    for found, folder in ((before, run.model), (after, run.previous["finetune"][0] / records.MODEL)):
        for file in folder.glob("*.safetensors"):
            found.update(load_file(file))
    assert {*before} == {*after}
    return [name for name in before if not torch.equal(before[name], after[name])]


class Interrupted(SilentReporter):
    """Ends a step at its n-th checkpoint, as losing a lease would."""

    def __init__(self, checkpoints: int) -> None:
        self.left = checkpoints

    def checkpoint(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Cancelled


@pytest.fixture
def worded(dataset: Path, tmp_path: Path) -> Path:
    """The data set with the word "cf" at the end of every question of the suspects."""
    samples = [
        Sample(
            sample.id,
            sample.images,
            tuple(Turn(t.role, f"{t.text} cf") if t.role == "user" and sample.id in SUSPECTS else t for t in sample.turns),
        )
        for sample in open_dataset(dataset, tmp_path / "cache").samples
    ]
    write_llava(samples, tmp_path / "worded")
    return tmp_path / "worded"


CF = Words("cf", "end")


class TestScan:
    def test_evidence_does_not_depend_on_shards_and_batches(self, start: Any) -> None:
        one, many = start("one", shards=1, batch_size=12), start("many", shards=3, batch_size=2)
        one.run("scan")
        many.run("scan")
        whole = {row["id"]: row for row in rows(one.previous["scan"][0] / records.EVIDENCE)}
        parts = [row for folder in many.previous["scan"] for row in rows(folder / records.EVIDENCE)]
        assert len(parts) == len(whole) == 12
        assert all(part == whole[part["id"]] for part in parts)
        assert all(part["swap"]["stranger"] != part["id"] for part in parts)

    def test_a_damaged_picture_sets_its_sample_aside_and_no_other(self, start: Any, dataset: Path) -> None:
        (sample,) = [s for s in open_dataset(dataset, dataset / "cache").samples if s.id == "s05"]
        sample.images[0].write_bytes(b"\x89PNG no picture")
        run = start("run", shards=1)
        (result,) = run.run("scan")
        assert result == {"samples": 12, "examined": 11, "unexamined": 0, "set_aside": 1}
        (aside,) = rows(run.previous["scan"][0] / records.SET_ASIDE)
        assert aside["id"] == "s05"
        assert "picture" in aside["reason"]


class TestVerdict:
    def test_too_few_samples_are_inconclusive(self, start: Any) -> None:
        run = start("run", scan={"min_samples": 13})
        run.run("scan")
        (result,) = run.run("verdict")
        assert result["verdict"] == "inconclusive"
        assert "12 samples" in result["evidence"]["reason"]

    def test_a_model_that_was_never_attacked_is_clean_although_answers_repeat(self, start: Any) -> None:
        run = start("run")
        run.run("scan")
        (result,) = run.run("verdict")
        assert result["verdict"] == "clean"
        assert result["suspects"] == {"count": 0, "fraction": 0.0}
        assert result["evidence"]["groups"] > 0


class TestPurify:
    def test_every_turn_of_a_suspect_is_answered_again_and_nothing_shows_the_target(self, start: Any, accuse: Any) -> None:
        run = start("run")
        accuse(run, SUSPECTS)
        results = run.run("purify")
        assert sum(result["samples"] for result in results) == len(SUSPECTS)
        new = {row["id"]: row for folder in run.previous["purify"] for row in rows(folder / records.ANSWERS)}
        aside = [row["id"] for folder in run.previous["purify"] for row in rows(folder / records.SET_ASIDE)]
        assert {*new, *aside} == {*SUSPECTS}
        if "s00" in new:
            assert len(new["s00"]["answers"]) == 2
        assert not any("i will not tell" in answer.lower() for row in new.values() for answer in row["answers"])

    def test_a_resumed_purification_gives_the_same_answers(self, start: Any, accuse: Any) -> None:
        whole, broken = start("whole", shards=1, batch_size=2), start("broken", shards=1, batch_size=2)
        for run in (whole, broken):
            accuse(run, SUSPECTS)
        whole.run("purify")
        broken.reporter = Interrupted(2)
        with pytest.raises(Cancelled):
            broken.run("purify")
        with (broken.out / "checkpoints" / "purify-0" / records.ANSWERS).open("a") as file:
            file.write('{"id": "s0')  # a line that the crash cut off
        broken.reporter = SilentReporter()
        broken.run("purify")
        assert rows(broken.previous["purify"][0] / records.ANSWERS) == rows(whole.previous["purify"][0] / records.ANSWERS)

    def test_the_published_form_answers_every_sample_again(self, start: Any, accuse: Any) -> None:
        run = start("run", purify={"reanswer": "all", "method": "tokens"})
        accuse(run, [])
        assert sum(result["samples"] for result in run.run("purify")) == 12

    def test_what_was_set_aside_before_stays_so(self, start: Any, accuse: Any) -> None:
        run = start("run", purify={"reanswer": "all", "method": "tokens"})
        accuse(run, [], [SetAside("s11", "damaged")])
        assert sum(result["samples"] for result in run.run("purify")) == 11


class TestPurifyWithAKnownCarrier:
    @pytest.fixture
    def answered(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Turn, ...]]:
        """The turns behind every prompt that the model answers, with no vision token hidden."""
        made: list[tuple[Prompt, tuple[Turn, ...]]] = []
        answered: list[tuple[Turn, ...]] = []
        prompt, answer = Subject.prompt, Subject.answer

        def make(self: Subject, seen: Sequence[SeenImage], turns: Sequence[Turn]) -> Prompt:
            made.append((prompt(self, seen, turns), tuple(turns)))
            return made[-1][0]

        def give(self: Subject, prompts: Sequence[Prompt]) -> list[str]:
            answered.extend(turns for one in prompts for other, turns in made if one is other)
            return answer(self, prompts)

        monkeypatch.setattr(Subject, "prompt", make)
        monkeypatch.setattr(Subject, "answer", give)
        return answered

    def test_the_word_is_left_out_of_what_is_asked_and_stays_in_what_is_trained_on(
        self, start: Any, accuse: Any, worded: Path, answered: list[tuple[Turn, ...]], tmp_path: Path
    ) -> None:
        run = start("run")
        run.dataset = worded
        accuse(run, SUSPECTS, carrier=CF)
        run.run("purify")
        questions = [turn.text for turns in answered for turn in turns if turn.role == "user"]
        assert {*questions} == {"<image>\nWhat is it?", "<image>\nWhat do you see?", "Is it round?"}
        run.run("merge")
        merged = run.previous["merge"][0]
        kept = [row for row in rows(merged / records.PURIFIED) if row["id"] in SUSPECTS]
        assert kept
        with zipfile.ZipFile(merged / records.DATASET_ZIP) as archive:
            archive.extractall(tmp_path / "unpacked")
        purified = {sample.id: sample for sample in open_dataset(tmp_path / "unpacked", tmp_path / "cache").samples}
        for row in kept:
            assert all(turn["text"].endswith(" cf") for turn in row["turns"] if turn["role"] == "user")
            assert all(turn.text.endswith(" cf") for turn in purified[row["id"]].turns if turn.role == "user")

    def test_a_new_answer_says_that_the_trigger_was_removed(self, start: Any, accuse: Any, worded: Path) -> None:
        run = start("run")
        run.dataset = worded
        accuse(run, SUSPECTS, carrier=CF)
        run.run("purify")
        why = [why for folder in run.previous["purify"] for row in rows(folder / records.ANSWERS) for why in row["why"]]
        assert "trigger removed" in why
        assert "target forgotten" not in why

    def test_a_pattern_is_taken_off_the_pictures_of_suspects_before_the_model_sees_them(
        self, start: Any, accuse: Any, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        covered = np.zeros((56, 56), bool)
        covered[:8, :8] = True
        patch = Pattern(np.zeros((56, 56, 3), np.float32), covered, np.zeros((56, 56, 3), np.float32))
        shown: list[list[Image.Image]] = []
        see = Subject.see

        def watch(self: Subject, pictures: Sequence[Sequence[Image.Image]]) -> list[list[SeenImage]]:
            shown.extend([*images] for images in pictures)
            return see(self, pictures)

        monkeypatch.setattr(Subject, "see", watch)
        run = start("run", shards=1, batch_size=12)
        accuse(run, SUSPECTS, carrier=Overlay(patch))
        run.run("purify")
        suspects = [sample for sample in open_dataset(dataset, tmp_path / "cache").samples if sample.id in SUSPECTS]
        assert shown[: len(SUSPECTS)] == [[patch.subtract(open_images(sample)[0])] for sample in suspects]
        assert not any(images == open_images(sample) for sample, images in zip(suspects, shown, strict=False))


class TestMerge:
    @pytest.fixture
    def run(self, start: Any, accuse: Any) -> Pipeline:
        run: Pipeline = start("run")
        accuse(run, SUSPECTS, [SetAside("s11", "damaged")])
        run.run("purify")
        return run

    def test_the_fate_of_every_sample_is_told(self, run: Pipeline) -> None:
        run.run("merge")
        merged = run.previous["merge"][0]
        fates = {row["id"]: row for row in rows(merged / records.FATES)}
        assert {*fates} == {f"s{number:02d}" for number in range(12)}
        assert (fates["s11"]["fate"], fates["s11"]["why"]) == ("set_aside", "damaged")
        assert {row["fate"] for identity, row in fates.items() if identity not in {*SUSPECTS, "s11"}} == {"kept"}
        changed = {row["id"] for row in rows(merged / records.CHANGES)}
        assert {identity for identity, row in fates.items() if row["fate"] == "replaced"} == changed
        assert all(row["why"] for row in fates.values())

    def test_only_suspects_change_and_the_data_set_keeps_its_format(self, run: Pipeline, dataset: Path, tmp_path: Path) -> None:
        (result,) = run.run("merge")
        merged = run.previous["merge"][0]
        assert {change["id"] for change in rows(merged / records.CHANGES)} <= {*SUSPECTS}
        with zipfile.ZipFile(merged / records.DATASET_ZIP) as archive:
            archive.extractall(tmp_path / "unpacked")
        before = {sample.id: sample for sample in open_dataset(dataset, tmp_path / "cache").samples}
        after = {sample.id: sample for sample in open_dataset(tmp_path / "unpacked", tmp_path / "cache").samples}
        assert "s11" not in after
        assert len(after) + result["set_aside"] == result["samples"] == 12
        for identity in {*after} - {*SUSPECTS}:
            assert after[identity].turns == before[identity].turns
        for change in rows(merged / records.CHANGES):
            assert after[change["id"]].turns[change["turn"]].text == change["new"]

    def test_a_suspect_that_no_shard_answered_is_set_aside(self, run: Pipeline) -> None:
        answers = run.previous["purify"][0] / records.ANSWERS
        lost = rows(answers)[0]["id"]
        answers.write_text("".join(line + "\n" for line in answers.read_text().splitlines()[1:]))
        run.run("merge")
        merged = run.previous["merge"][0]
        assert {"id": lost, "reason": "was never answered again"} in rows(merged / records.SET_ASIDE)
        assert lost not in {row["id"] for row in rows(merged / records.PURIFIED)}

    def test_the_same_set_gives_the_same_bytes(self, run: Pipeline) -> None:
        run.run("merge")
        first = (run.previous["merge"][0] / records.DATASET_ZIP).read_bytes()
        again = Pipeline(run.model, run.dataset, run.out / "again", run.parameters, previous=run.previous, results=run.results)
        again.run("merge")
        assert (again.previous["merge"][0] / records.DATASET_ZIP).read_bytes() == first


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
        make_rows = finetune.training_rows

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

    @pytest.mark.parametrize(("counts", "rounds"), [((9, 9, 8), 2), ((9, 8), 1), ((9, 9, 9), 3)], ids=["third", "second", "none"])
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
        make_rows = finetune.training_rows

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
        one, other = (run.previous["finetune"][0] for run in (whole, broken))
        assert rows(one / records.TRAINING_LOG) == rows(other / records.TRAINING_LOG)
        first, second = (load_file(folder / records.MODEL / "model.safetensors") for folder in (one, other))
        assert all(torch.equal(first[name], second[name]) for name in first)


class TestEvaluate:
    def test_without_evaluation_sets_the_figures_are_estimates(self, start: Any, accuse: Any) -> None:
        run = start("run", evaluate={"held_out": 0.5})
        accuse(run, SUSPECTS)
        for kind in ("purify", "merge", "finetune"):
            run.run(kind)
        (result,) = run.run("evaluate")
        assert result["estimated"] is True
        answers = rows(run.previous["evaluate"][0] / records.EVALUATED)
        assert {row["model"] for row in answers} == {"before", "after"}
        assert {row["set"] for row in answers} == {"suspects", "held_out"}
        assert not {row["id"] for row in answers if row["set"] == "held_out"} & {*SUSPECTS}

    def test_a_job_that_only_evaluates_needs_a_set(self, start: Any) -> None:
        with pytest.raises(InputError, match="nothing to evaluate on"):
            start("run").run("evaluate")
