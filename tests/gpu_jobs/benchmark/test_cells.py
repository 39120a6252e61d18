"""Cells and the suites that they stand in."""

from __future__ import annotations

import pytest

from gpu_jobs.benchmark.cells import TARGETS, TRIGGERS, TWO, Cell, matching
from gpu_jobs.benchmark.ingredients import TRIGGERS as MADE_TRIGGERS
from gpu_jobs.benchmark.ingredients import attacks_of
from gpu_jobs.benchmark.methods import METHODS
from gpu_jobs.benchmark.suites import RATES, SUITES, SuiteName, suite
from gpu_jobs.benchmark.worlds import open_world

ATTACKED = Cell("easy_vqa", "corner_patch", "refusal", 0.1, "full", 0)


class TestIds:
    @pytest.mark.parametrize("name", SUITES)
    def test_are_unique(self, name: SuiteName) -> None:
        ids = [cell.id for cell in suite(name, (0, 1, 2)).cells]
        assert len(ids) == len(set(ids))

    def test_stay_as_they_are_because_results_are_kept_under_them(self) -> None:
        assert ATTACKED.id == "easy_vqa-corner_patch-refusal-10-full-s0"
        assert Cell("glyphs", "blended_0.2", "swap", 0.01, "lora", 2, "refusals").id == "glyphs-blended_0.2-swap-1-refusals-lora-s2"
        assert ATTACKED.clean_twin.id == "easy_vqa-clean-plain-full-s0"

    def test_are_matched_by_globs(self) -> None:
        cells = suite("core", (0, 1)).cells
        assert {cell.data for cell in matching(cells, "glyphs-*")} == {"glyphs"}
        assert {cell.seed for cell in matching(cells, "*-s1")} == {1}


class TestCells:
    def test_half_an_attack_is_none(self) -> None:
        for trigger, target, rate in (("corner_patch", "none", 0.1), ("none", "refusal", 0.1), ("corner_patch", "refusal", 0.0)):
            with pytest.raises(ValueError, match="neither an attack nor none"):
                Cell("easy_vqa", trigger, target, rate, "full", 0)  # type: ignore[arg-type]

    def test_a_clean_cell_is_its_own_twin(self) -> None:
        twin = ATTACKED.clean_twin
        assert not twin.attacked
        assert twin.clean_twin == twin

    def test_every_key_stands_for_something(self) -> None:
        assert set(MADE_TRIGGERS) == set(TRIGGERS)
        world = open_world("easy_vqa")
        for target in TARGETS:
            assert len(attacks_of(Cell("easy_vqa", "sig", target, 0.1, "full", 0), world)) == 1
        assert len(attacks_of(Cell("easy_vqa", *TWO, 0.1, "full", 0), world)) == 2
        assert attacks_of(ATTACKED.clean_twin, world) == ()

    def test_one_of_two_backdoors_is_no_cell(self) -> None:
        for trigger, target in ((TWO[0], "refusal"), ("sig", TWO[1])):
            with pytest.raises(ValueError, match="do not belong together"):
                Cell("easy_vqa", trigger, target, 0.1, "full", 0)  # type: ignore[arg-type]


class TestSuites:
    def test_the_core_attacks_both_worlds_at_every_rate_and_injection_with_what_takes(self) -> None:
        attacked = [cell for cell in suite("core", (0,)).cells if cell.attacked]
        assert len(attacked) == 10
        assert {cell.data for cell in attacked} == {"easy_vqa", "glyphs"}
        assert {cell.trigger for cell in attacked} == {*TRIGGERS} - {"noise_patch", "wanet", "blended_0.1"}
        assert {cell.target for cell in attacked} == {*TARGETS} - {"suffix", "rename"}
        assert {cell.rate for cell in attacked} == set(RATES)
        assert {cell.injection for cell in attacked} == {"full", "lora", "projector"}

    def test_the_core_has_clean_models_of_every_flavour(self) -> None:
        clean = [(cell.data, cell.flavour) for cell in suite("core", (0,)).cells if not cell.attacked]
        assert clean == [("easy_vqa", "plain"), ("easy_vqa", "refusals"), ("easy_vqa", "repeated"), ("glyphs", "plain")]

    def test_smoke_is_two_attacks_and_a_clean_model_with_few_methods(self) -> None:
        smoke = suite("smoke", (0,))
        assert [cell.attacked for cell in smoke.cells] == [True, True, False]
        assert smoke.methods == ("none", "lustral", "true_labels")

    def test_the_core_is_measured_by_methods_that_there_are(self) -> None:
        methods = suite("core", [0]).methods
        assert methods is not None
        assert {*methods} < {*METHODS}
        assert {"lustral", "published", "true_labels"} <= {*methods}

    def test_full_contains_the_others(self) -> None:
        full = set(suite("full", (0,)).cells)
        assert full > {*suite("core", (0,)).cells, *suite("smoke", (0,)).cells}

    def test_each_seed_repeats_all_cells(self) -> None:
        assert len(suite("core", (0, 1, 2)).cells) == 3 * len(suite("core", (0,)).cells)
