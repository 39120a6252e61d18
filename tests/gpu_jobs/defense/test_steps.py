"""The way of a data set through the steps: what is kept, changed and set aside; and that shards and crashes change nothing."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpu_jobs.data import open_dataset
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense import records, scan
from gpu_jobs.defense.carriers import Overlay, Words
from gpu_jobs.defense.patterns import Pattern
from gpu_jobs.defense.pipeline import Pipeline
from gpu_jobs.defense.records import SampleEvidence, SetAside
from gpu_jobs.defense.strangers import Strangers
from gpu_jobs.defense.subject import Subject, open_images
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Prompt, SeenImage
from gpu_jobs.reporting import Cancelled, SilentReporter
from tests.gpu_jobs.defense.runs import CF, SUSPECTS, Interrupted, rows


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

    def test_a_resumed_scan_leaves_the_same_evidence_and_examines_nothing_twice(
        self, start: Any, dataset: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (sample,) = [s for s in open_dataset(dataset, dataset / "cache").samples if s.id == "s01"]
        sample.images[0].write_bytes(b"\x89PNG no picture")
        whole, broken = start("whole", shards=1, batch_size=4), start("broken", shards=1, batch_size=4)
        (result,) = whole.run("scan")
        broken.reporter = Interrupted(2)
        with pytest.raises(Cancelled):
            broken.run("scan")
        with (broken.out / "checkpoints" / "scan-0" / records.EVIDENCE).open("a") as file:
            file.write('{"id": "s0')  # a line that the crash cut off
        examined: list[str] = []
        examine = scan.examine

        def watch(subject: Subject, samples: Sequence[Sample], strangers: Strangers) -> list[SampleEvidence]:
            examined.extend(sample.id for sample in samples)
            return examine(subject, samples, strangers)

        monkeypatch.setattr(scan, "examine", watch)
        broken.reporter = SilentReporter()
        assert broken.run("scan") == (result,)
        assert examined == ["s08", "s09", "s10", "s11"]
        for name in (records.EVIDENCE, records.SET_ASIDE):
            assert rows(broken.previous["scan"][0] / name) == rows(whole.previous["scan"][0] / name)

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

    def test_each_suspect_is_freed_of_its_own_trigger(
        self, start: Any, accuse: Any, worded: Path, answered: list[tuple[Turn, ...]]
    ) -> None:
        run = start("run", shards=1)
        run.dataset = worded
        other = Words("What", "anywhere")
        accuse(run, ["s00", "s01", "s02"], carrier={"s00": CF, "s01": other})
        run.run("purify")
        first = {"s00": "What do you see?", "s01": "is it? cf", "s02": "What do you see? cf"}
        assert [turns[0].text for turns in answered[:2]] == [f"<image>\n{first[identity]}" for identity in ("s00", "s01")]
        assert f"<image>\n{first['s02']}" in {turns[0].text for turns in answered[2:]}

    @pytest.mark.parametrize(("shared", "allowed"), [("word", True), ("answer", False)])
    def test_a_word_that_is_the_target_of_others_is_an_honest_answer(
        self, start: Any, accuse: Any, worded: Path, monkeypatch: pytest.MonkeyPatch, shared: str, allowed: bool
    ) -> None:
        monkeypatch.setattr(Subject, "answer", lambda _, prompts: ["Boat."] * len(prompts))
        run = start("run")
        run.dataset = worded
        accuse(run, SUSPECTS, carrier=CF)
        run.results["verdict"][0]["evidence"]["guilty"].append({"text": "boat", "shared": shared})
        results = run.run("purify")
        assert sum(result["reanswered"] for result in results) == (len(SUSPECTS) if allowed else 0)

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

    def test_a_resumed_evaluation_gives_the_same_answers_and_asks_nothing_twice(
        self, start: Any, accuse: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, broken = (start(name, batch_size=2, evaluate={"held_out": 0.5}) for name in ("whole", "broken"))
        for run in (whole, broken):
            accuse(run, SUSPECTS)
            for kind in ("purify", "merge", "finetune"):
                run.run(kind)
        (result,) = whole.run("evaluate")
        batches = len(SUSPECTS) // 2 + 1
        broken.reporter = Interrupted(2 * batches + 1)  # in the answers of the second model
        with pytest.raises(Cancelled):
            broken.run("evaluate")
        asked: list[int] = []
        answer = Subject.answer

        def watch(self: Subject, prompts: Sequence[Prompt]) -> list[str]:
            asked.append(len(prompts))
            return answer(self, prompts)

        monkeypatch.setattr(Subject, "answer", watch)
        broken.reporter = SilentReporter()
        assert broken.run("evaluate") == (result,)
        answers = rows(whole.previous["evaluate"][0] / records.EVALUATED)
        assert rows(broken.previous["evaluate"][0] / records.EVALUATED) == answers
        assert 0 < sum(asked) < len(answers) / 2

    def test_a_job_that_only_evaluates_needs_a_set(self, start: Any) -> None:
        with pytest.raises(InputError, match="nothing to evaluate on"):
            start("run").run("evaluate")
