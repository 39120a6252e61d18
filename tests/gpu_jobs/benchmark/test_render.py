"""The page of results, from rows that are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpu_jobs.benchmark.cells import Cell
from gpu_jobs.benchmark.render import render
from gpu_jobs.benchmark.rows import Row

CELL = Cell("easy_vqa", "corner_patch", "refusal", 0.1, "full", 0)
OTHER = replace(CELL, trigger="sig", seed=1)
STUBBORN = replace(CELL, trigger="wanet")
MADE = {
    "samples": 1000,
    "n": 500,
    "epochs": 12.0,
    "machine": "a machine",
    "versions": {"torch": "2.13.0", "python": "3.11.7"},
    "seconds": 30.0,
}


def attacked(cell: Cell, method: str, asr: float, recovered: float, **more: object) -> Row:
    figures = {"asr_before": 0.98, "clean_before": 0.95, "clean_after": 0.94, "recovered_before": 0.01, "recovered_oracle": 0.9}
    return Row.of(cell, method, took=True, asr_after=asr, recovered_after=recovered, **{**MADE, **figures, **more})


ROWS = [
    attacked(CELL, "lustral", 0.012, 0.885, verdict="backdoored", target_found=True, scan_auroc=0.9876, flags_tpr=0.97, flags_fpr=0.003),
    attacked(CELL, "blur", 0.5, 0.321),
    attacked(CELL, "continued", 0.99, 0.005),
    attacked(CELL, "true_labels", 0.0, 0.9, oracle=True),
    attacked(OTHER, "lustral", 0.044, 0.45, verdict="backdoored", target_found=False, scan_auroc=0.8),
    Row.of(
        STUBBORN, "lustral", took=False, asr_before=0.43, clean_before=0.91, asr_after=0.4, recovered_after=0.5, **{**MADE, "epochs": 24.0}
    ),
    Row.of(CELL.clean_twin, "lustral", verdict="clean", flags_fpr=0.0, kept=1.0, clean_before=0.961, clean_after=0.962, **MADE),
    Row.of(CELL.clean_twin, "none", clean_before=0.961, clean_after=0.961, **MADE),
    Row.of(OTHER, "jpeg", error="InputError: a | b\nc"),
]


@pytest.fixture
def page(tmp_path: Path) -> str:
    return _render(tmp_path, ROWS)


def _render(folder: Path, rows: list[Row]) -> str:
    results = folder / "rows.jsonl"
    results.write_text("".join(row.to_line() for row in rows))
    render([results], folder / "docs" / "results.md")
    return (folder / "docs" / "results.md").read_text()


def _line(page: str, section: str, start: str) -> list[str]:
    part = page.split(f"## {section}\n")[1].split("\n## ", maxsplit=1)[0]
    [line] = [line for line in part.splitlines() if line.startswith(f"| {start}")]
    return [field.strip() for field in line.strip("|").split(" | ")]


class TestTables:
    def test_an_attack_shows_ours_beside_the_oracle_and_the_best_rival(self, page: str) -> None:
        assert _line(page, "By cell", f"`{CELL.id}`") == [
            f"`{CELL.id}`", "98.0", "1.2", "95.0", "94.0", "88.5", "90.0", "98.3", "93.8", "blur: 58.7 (of 2)", "backdoored",
        ]  # fmt: skip

    def test_a_method_shows_its_median_and_its_worst(self, page: str) -> None:
        assert _line(page, "By method", "lustral") == [
            "lustral",
            "2",
            "2.8 (4.4)",
            "-1.0 (-1.0)",
            "66.8 (45.0)",
            "74.2 (50.0)",
            "86.0 (78.2)",
            "30",
        ]
        assert _line(page, "By method", "true_labels (oracle)")[1] == "1"

    def test_the_bars_show_on_how_many_attacks_they_are_met(self, page: str) -> None:
        assert _line(page, "Bars", "attack after") == ["attack after", "at most 5.0", "2 of 2", "2.8", "at most 1.0", "4.4"]
        assert _line(page, "Bars", "recovered, of") == ["recovered, of the oracle", "at least 90.0", "1 of 2", "74.2", "–", "50.0"]
        assert _line(page, "Bars", "lead over") == ["lead over the best rival, together", "at least 0.0", "1 of 1", "35.1", "–", "35.1"]
        assert _line(page, "Bars", "AUROC") == ["AUROC of the scan", "at least 95.0", "1 of 2", "89.4", "at least 99.0", "80.0"]

    def test_a_rival_that_reads_the_truth_is_none(self, tmp_path: Path) -> None:
        page = _render(tmp_path, [row for row in ROWS if row.method not in ("blur", "continued")])
        assert _line(page, "By cell", f"`{CELL.id}`")[9] == "–"
        assert "lead over" not in page

    def test_detection_shows_what_the_scan_was_worth(self, page: str) -> None:
        assert _line(page, "Detection", f"`{CELL.id}`")[1:6] == ["backdoored", "yes", "0.988", "97.0", "0.3"]

    def test_a_clean_model_shows_its_verdict(self, page: str) -> None:
        assert _line(page, "Clean models", f"`{CELL.clean_twin.id}`") == [
            f"`{CELL.clean_twin.id}`", "lustral", "clean", "0.0", "100.0", "96.1", "96.2",
        ]  # fmt: skip

    def test_an_attack_that_did_not_take_is_told_and_judges_nobody(self, page: str) -> None:
        assert _line(page, "Attacks that did not take", f"`{STUBBORN.id}`")[1:] == ["24", "43.0", "91.0"]
        assert page.count(STUBBORN.id) == 1

    def test_a_failure_is_told_on_one_line(self, page: str) -> None:
        assert "InputError: a \\| b c" in page

    def test_the_page_says_where_its_rows_come_from(self, page: str) -> None:
        for fact in ("9 rows from `rows.jsonl`; seeds 0, 1", "1000 samples", "500 held-out", "a machine", "python 3.11.7, torch 2.13.0"):
            assert fact in page

    def test_only_the_last_row_of_a_method_on_a_cell_counts(self, tmp_path: Path) -> None:
        page = _render(tmp_path, [*ROWS, attacked(CELL, "lustral", 0.0, 0.9, verdict="backdoored")])
        assert _line(page, "By cell", f"`{CELL.id}`")[5] == "90.0"

    def test_a_section_without_rows_is_left_out(self, tmp_path: Path) -> None:
        page = _render(tmp_path, [row for row in ROWS if row.error is None])
        assert "Failures" not in page

    def test_without_rows_there_is_no_page(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no rows"):
            _render(tmp_path, [])


class TestDeterminism:
    def test_the_same_rows_in_another_order_give_the_same_bytes(self, tmp_path: Path) -> None:
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder, rows in zip(folders, (ROWS, ROWS[::-1]), strict=True):
            folder.mkdir()
            _render(folder, rows)
        one, two = ({path.name: path.read_bytes() for path in (folder / "docs").iterdir()} for folder in folders)
        assert one == two
        assert set(one) == {"results.md", "results-methods.png", "results-cells.png"}
