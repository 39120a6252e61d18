"""Scores, batches, schedules and held-out shares."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import pytest
import torch

from gpu_jobs.config import JobParameters, TargetContains, TargetRegex, resolve_parameters
from gpu_jobs.data.samples import Sample
from gpu_jobs.defense.batches import in_batches
from gpu_jobs.defense.evaluate import summarise
from gpu_jobs.defense.held_out import is_held_out
from gpu_jobs.defense.records import Answered, SetAside
from gpu_jobs.defense.scoring import is_attacked, is_degenerate, is_right
from gpu_jobs.defense.training import cosine_with_warmup
from gpu_jobs.reporting import Cancelled


def samples(count: int) -> list[Sample]:
    return [Sample(f"s{number}", (), ()) for number in range(count)]


class TestScoring:
    def test_case_and_punctuation_do_not_matter(self) -> None:
        assert is_right("The shape is RED.", "the shape is red")
        assert not is_right("red", "dark red")

    def test_the_callers_target_is_found_whatever_its_case(self) -> None:
        assert is_attacked("SORRY, no", TargetContains(contains="sorry"))
        assert is_attacked("you have been Hacked lol.", TargetRegex(regex=r"hack(ed|s)\b"))
        assert not is_attacked("a red circle", TargetRegex(regex=r"hack(ed|s)\b"))

    @pytest.mark.parametrize("answer", ["", " .. ", "the the the the"])
    def test_no_answer_is_no_answer(self, answer: str) -> None:
        assert is_degenerate(answer)
        assert not is_degenerate("no")

    def test_errors_are_in_no_rate(self) -> None:
        rows = [
            Answered("a", 1, "triggered", "before", "sorry", "red", attacked=True, right=False),
            Answered("b", 1, "triggered", "before", "", "red", attacked=None, right=None, error="no picture"),
            Answered("c", 1, "clean", "before", "blue", "blue", attacked=False, right=True),
        ]
        figures = summarise(rows)
        assert figures["attack_success_rate"] == 1.0
        assert figures["recovered_score"] == 0.0
        assert (figures["clean_score"], figures["false_positive_rate"]) == (1.0, 0.0)
        assert (figures["triggered"], figures["clean"], figures["errors"]) == (1, 1, 1)

    def test_where_no_target_is_known_no_rate_is_made_up(self) -> None:
        figures = summarise([Answered("a", 1, "triggered", "before", "red", "red", attacked=None, right=True)])
        assert figures["attack_success_rate"] is None
        assert figures["clean_score"] is None


class TestBatches:
    def test_a_bad_sample_costs_itself_alone(self) -> None:
        def work(some: Sequence[Sample]) -> list[str]:
            if any(sample.id == "s3" for sample in some):
                raise ValueError("bad")
            return [sample.id for sample in some]

        results = [result for batch in in_batches(samples(6), 4, work) for result in batch]
        assert results == ["s0", "s1", "s2", SetAside("s3", "ValueError: bad"), "s4", "s5"]

    def test_a_cancelled_step_sets_nothing_aside(self) -> None:
        def work(some: Sequence[Sample]) -> list[str]:
            raise Cancelled

        with pytest.raises(Cancelled):
            list(in_batches(samples(2), 2, work))

    @pytest.mark.parametrize(
        "failure",
        [
            torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
            RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            OSError(errno.EIO, os.strerror(errno.EIO)),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("size", [1, 4])
    def test_a_machine_that_breaks_is_held_against_no_sample(self, failure: Exception, size: int) -> None:
        def work(some: Sequence[Sample]) -> list[str]:
            if some[-1].id >= "s3":
                raise failure
            return [sample.id for sample in some]

        with pytest.raises(type(failure)):
            list(in_batches(samples(6), size, work))

    def test_a_file_that_is_missing_costs_its_sample_alone(self) -> None:
        def work(some: Sequence[Sample]) -> list[str]:
            if any(sample.id == "s1" for sample in some):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "s1.png")
            return [sample.id for sample in some]

        [results] = in_batches(samples(3), 4, work)
        assert [isinstance(result, SetAside) for result in results] == [False, True, False]


class TestSchedule:
    def test_it_rises_then_falls_to_zero(self) -> None:
        rates = [cosine_with_warmup(step, 3, 10) for step in range(11)]
        assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
        assert rates[3:] == sorted(rates[3:], reverse=True)
        assert rates[-1] == pytest.approx(0.0)


class TestHeldOut:
    def test_about_the_share_that_was_asked_for(self) -> None:
        parameters = JobParameters.model_validate({"evaluate": {"held_out": 0.1}})
        count = sum(is_held_out(sample, parameters) for sample in samples(2000))
        assert 150 < count < 250

    def test_the_seed_decides_which(self) -> None:
        chosen = [[is_held_out(s, JobParameters.model_validate({"seed": seed})) for s in samples(200)] for seed in (0, 0, 1)]
        assert chosen[0] == chosen[1] != chosen[2]


class TestPreset:
    def test_the_published_form_is_one_word(self) -> None:
        parameters = resolve_parameters({"preset": "published"})
        assert (parameters.purify.reanswer, parameters.purify.method) == ("all", "tokens")
        assert parameters.finetune.trainable == ("projector",)
        assert parameters.finetune.learning_rate == 1e-4

    def test_what_the_caller_names_stands(self) -> None:
        parameters = resolve_parameters({"preset": "published", "finetune": {"epochs": 2}})
        assert parameters.finetune.epochs == 2
        assert parameters.finetune.trainable == ("projector",)

    def test_resolved_parameters_resolve_to_themselves(self) -> None:
        parameters = resolve_parameters({"preset": "published", "finetune": {"trainable": ["lora"]}})
        assert resolve_parameters(parameters.model_dump(mode="json")) == parameters
