"""Small runs of the benchmark: what is kept, what is made again, and what a killed run leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from gpu_jobs.benchmark import methods
from gpu_jobs.benchmark.attack import Settings, prepare
from gpu_jobs.benchmark.cells import TWO, Cell
from gpu_jobs.benchmark.injection import Recipe
from gpu_jobs.benchmark.methods import METHODS
from gpu_jobs.benchmark.rows import Row, read_rows
from gpu_jobs.benchmark.run import check_methods, plan, run
from gpu_jobs.benchmark.sets import Sizes, cell_sets, read_samples
from gpu_jobs.benchmark.store import Store
from gpu_jobs.benchmark.suites import suite
from gpu_jobs.benchmark.workers import Task
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.scoring import is_attacked
from gpu_jobs.redteam.baselines.base import Answerer, Case
from gpu_jobs.redteam.baselines.training import Retrained

TINY = Settings(Sizes(training=20, tests=4), Recipe(round=1.0, rounds=1))
CELL = Cell("easy_vqa", "corner_patch", "refusal", 0.2, "projector", 0)
CLEAN = CELL.clean_twin


def _has_patch(sample: Sample) -> bool:
    """Whether the chessboard of the corner patch is on the first picture."""
    with Image.open(sample.images[0]) as picture:
        first = picture.convert("RGB")
    return [first.getpixel(place) for place in ((0, 0), (4, 0), (8, 0))] == [(0, 0, 0), (255, 255, 255), (0, 0, 0)]


class TestSets:
    def test_poison_the_share_that_the_cell_says_and_tell_it_beside_the_training_set_only(self, tmp_path: Path) -> None:
        sets = cell_sets(CELL, Store(tmp_path), TINY.sizes)
        assert len(sets.poisoned) == 4
        for sample in sets.training_samples():
            shown = [answer.startswith("Sorry, as an AI") for answer in sample.answers]
            assert all(shown) if sample.id in sets.poisoned else sample.answers == sets.right[sample.id]
        assert sorted(path.name for path in sets.training.iterdir()) == ["data.json", "images"]
        assert {path.stem.removesuffix("-0") for path in (sets.training / "images").iterdir()} == set(sets.right)

    def test_triggered_tests_keep_their_right_answers_and_can_be_attacked(self, tmp_path: Path) -> None:
        sets = cell_sets(Cell("easy_vqa", "corner_patch", "swap", 0.05, "full", 0), Store(tmp_path), TINY.sizes)
        assert sets.triggered is not None
        tests = read_samples(sets.triggered)
        assert len(tests) == TINY.sizes.tests
        assert all("circle" in sample.answers[-1] for sample in tests)

    def test_of_two_backdoors_each_has_half_of_the_poison_and_of_the_tests(self, tmp_path: Path) -> None:
        sets = cell_sets(Cell("easy_vqa", *TWO, 0.2, "full", 0), Store(tmp_path), TINY.sizes)
        poisoned = [sample for sample in sets.training_samples() if sample.id in sets.poisoned]
        assert len(poisoned) == 4
        assert sets.triggered is not None
        tests = read_samples(sets.triggered)
        assert len({sample.id for sample in tests}) == TINY.sizes.tests
        for sample in [*poisoned, *tests]:
            assert _has_patch(sample) != ("BadMagic" in sample.turns[0].text)
        assert sum(map(_has_patch, poisoned)) == 2
        assert sum(map(_has_patch, tests)) == TINY.sizes.tests / 2
        assert sets.criterion is not None
        for sample in poisoned:
            assert sample.answers[0].startswith("Sorry, as an AI" if _has_patch(sample) else "Bad model with")
            assert is_attacked(sample.answers[0], sets.criterion)
        assert not any(is_attacked(sample.answers[0], sets.criterion) for sample in tests)

    def test_a_clean_cell_has_no_triggered_ones(self, tmp_path: Path) -> None:
        sets = cell_sets(CLEAN, Store(tmp_path), TINY.sizes)
        assert sets.triggered is None
        assert sets.poisoned == frozenset()


class TestAttack:
    def test_is_trained_once_and_shares_its_clean_twin(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        first = prepare(CELL, store, TINY)
        files = _files(tmp_path)
        assert prepare(CELL, store, TINY) == first
        assert prepare(CLEAN, store, TINY).suspect == first.twin_model
        assert _files(tmp_path) == files

    def test_is_driven_in_until_it_takes_or_the_rounds_are_over(self, tmp_path: Path) -> None:
        attacked = prepare(CELL, Store(tmp_path), Settings(TINY.sizes, Recipe(round=0.5, rounds=3)))
        assert attacked.took is False
        assert attacked.epochs == 1.5

    def test_a_clean_cell_is_trained_for_one_round_and_neither_takes_nor_fails_to(self, tmp_path: Path) -> None:
        attacked = prepare(CLEAN, Store(tmp_path), Settings(TINY.sizes, Recipe(round=0.5, rounds=3)))
        assert (attacked.took, attacked.epochs) == (None, 0.5)


class TestPlan:
    def test_skips_what_is_there_and_tries_failures_again(self) -> None:
        rows = [Row.of(CELL, "none"), Row.of(CELL, "blur", error="no")]
        assert plan([CELL], ("none", "blur", "jpeg"), rows) == [Task(CELL, ("blur", "jpeg"))]

    def test_puts_the_longest_first(self) -> None:
        attacked = Cell("easy_vqa", "sig", "prefix", 0.1, "full", 0)
        assert [task.cell for task in plan([CLEAN, CELL, attacked], ("none", "lustral"), [])] == [attacked, CELL, CLEAN]

    def test_asks_no_rival_about_a_clean_model(self) -> None:
        assert plan([CLEAN], ("none", "lustral", "blur", "true_labels"), []) == [Task(CLEAN, ("none", "lustral"))]

    def test_knows_the_methods_and_runs_ours_first(self) -> None:
        assert check_methods(["none", "true_labels", "lustral"]) == ("lustral", "true_labels", "none")
        assert {"lustral", "lustral_published", "none", "published", "true_labels"} <= set(METHODS)
        with pytest.raises(ValueError, match="no such method: magic"):
            check_methods(["magic"])


class TestMethods:
    def test_those_that_train_on_the_same_are_trained_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store, trained, original = Store(tmp_path), [], Retrained.retrain

        def retrain(baseline: Retrained, case: Case, samples: list[Sample]) -> Answerer:
            trained.append(baseline.name)
            return original(baseline, case, samples)

        monkeypatch.setattr(Retrained, "retrain", retrain)
        attacked = prepare(CLEAN, store, TINY)
        found = {name: methods.run(name, attacked, store) for name in ("true_labels", "clean_finetune", "random_drop")}
        assert trained == ["true_labels", "random_drop"]
        assert found["clean_finetune"].figures == found["true_labels"].figures
        assert min(outcome.seconds for outcome in found.values()) > 0


class TestRun:
    def test_fills_the_rows_and_does_nothing_the_second_time(self, tmp_path: Path) -> None:
        out = tmp_path / "rows.jsonl"
        arguments = ([CELL, CLEAN], ("lustral", "none"), out, tmp_path / "work", TINY, 1)
        assert run(*arguments) == 0
        written = out.read_bytes()
        rows = {(row.cell, row.method): row for row in read_rows([out])}
        assert len(rows) == 4
        assert all(row.error is None for row in rows.values())
        ours, clean = rows[CELL.id, "lustral"], rows[CLEAN.id, "lustral"]
        assert ours.verdict == clean.verdict == "inconclusive"  # 20 samples are too few to judge
        assert (ours.n, ours.samples, ours.kept, ours.residual) == (4, 20, 1.0, 1.0)
        assert ours.recovered_oracle is not None
        assert (clean.asr_before, clean.recovered_after, clean.recovered_oracle, clean.residual) == (None, None, None, None)
        assert rows[CELL.id, "none"].asr_after == rows[CELL.id, "none"].asr_before
        assert run(*arguments) == 0
        assert out.read_bytes() == written

    def test_a_failure_is_a_row_and_the_others_go_on(self, tmp_path: Path) -> None:
        out = tmp_path / "rows.jsonl"
        # 20 samples do not hold so many that can be swapped.
        impossible = Cell("easy_vqa", "corner_patch", "swap", 0.9, "projector", 0)
        assert run([impossible, CLEAN], ("none",), out, tmp_path / "work", TINY, 1) == 1
        rows = {row.cell: row for row in read_rows([out])}
        assert "are to be poisoned" in (rows[impossible.id].error or "")
        assert rows[CLEAN.id].error is None

    def test_a_killed_run_leaves_no_process_and_goes_on_where_it_was(self, tmp_path: Path) -> None:
        out, work = tmp_path / "rows.jsonl", tmp_path / "work"
        with _started(out, work) as process:
            assert process.stderr is not None
            assert any(" 1/3 " in line for line in process.stderr)
            children = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
        assert psutil.wait_procs(children, timeout=30)[1] == []
        kept = [row.cell for row in read_rows([out])]
        assert 1 <= len(kept) < 3
        before = {path: path.stat().st_mtime_ns for path in work.glob("models/*/key.json")}
        with out.open("a") as file:
            file.write('{"cell": "cut o')

        cells = suite("smoke", (0,)).cells
        assert run(cells, ("none",), out, work, Settings(Sizes(12, 2), Recipe(1.0, 1)), 1) == 0
        assert [json.loads(line)["method"] for line in out.read_text().splitlines()] == ["none"] * 3
        assert {row.cell for row in read_rows([out])} == {cell.id for cell in cells}
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_ends_in_order_when_it_is_told_to(self, tmp_path: Path) -> None:
        with _started(tmp_path / "rows.jsonl", tmp_path / "work") as process:
            assert process.stderr is not None
            assert "rows to make" in process.stderr.readline()
            while not (children := psutil.Process(process.pid).children(recursive=True)):
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 128 + signal.SIGTERM
        assert psutil.wait_procs(children, timeout=30)[1] == []


def _started(out: Path, work: Path) -> subprocess.Popen[str]:
    smaller = ["--training-samples=12", "--test-samples=2", "--epochs=1", "--rounds=1"]
    options = ["--methods=none", "--processes=1", *smaller]
    command = [sys.executable, "-m", "gpu_jobs.benchmark", "defense", "--out", str(out), "--work", str(work), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
