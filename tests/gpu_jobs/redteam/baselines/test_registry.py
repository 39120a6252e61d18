from dataclasses import fields, replace
from typing import Any

import pytest

from gpu_jobs.data.samples import Sample
from gpu_jobs.errors import InputError
from gpu_jobs.redteam.baselines import BASELINES, Baseline, Case

ORACLES = {"clean_finetune", "true_labels"}
FLAGS = {"drop_flagged", "flagged_to_empty"}


class CoveredCase(Case):
    """A case of which some fields must not be read."""

    covered: frozenset[str] = frozenset()

    def __getattribute__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "covered"):
            raise AssertionError(f"reads {name}")
        return super().__getattribute__(name)


def cover(case: Case, *names: str) -> Case:
    covered = CoveredCase(**{field.name: getattr(case, field.name) for field in fields(case)})
    object.__setattr__(covered, "covered", frozenset(names))
    return covered


def test_holds_every_baseline_under_its_own_name() -> None:
    assert set(BASELINES) == {
        "none", "continued", "random_drop", "random_hiding", "reanswer_plain", "attention_hiding", "published", "blur", "jpeg", "bye",
        "projector_reset", "channel_restore", "drop_flagged", "flagged_to_empty", "clean_finetune", "true_labels",
    }  # fmt: skip
    assert all(baseline.name == name for name, baseline in BASELINES.items())


def test_says_which_baselines_are_oracles_and_which_need_a_scan() -> None:
    assert {name for name, baseline in BASELINES.items() if baseline.oracle} == ORACLES
    assert {name for name, baseline in BASELINES.items() if baseline.needs_flags} == FLAGS


@pytest.mark.parametrize("baseline", [pytest.param(each, id=name) for name, each in BASELINES.items()])
def test_every_baseline_answers_and_reads_only_what_it_may(baseline: Baseline, case: Case, questions: list[Sample]) -> None:
    truth = [] if baseline.oracle else ["right", "poisoned", "base"]
    flags = [] if baseline.needs_flags else ["flagged"]
    few = replace(case, samples=case.samples[:16])
    answers = baseline.defend(cover(few, *truth, *flags))(questions)
    assert len(answers) == len(questions)
    assert all(isinstance(answer, str) for answer in answers)


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_oracles_do_read_the_truth(name: str, case: Case) -> None:
    with pytest.raises(AssertionError, match="reads right"):
        BASELINES[name].defend(cover(case, "right"))


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_baselines_that_need_flags_say_so_where_no_scan_ran(name: str, case: Case) -> None:
    with pytest.raises(InputError, match="a scan flagged"):
        BASELINES[name].defend(replace(case, flagged=None))
