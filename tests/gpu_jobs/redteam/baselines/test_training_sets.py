"""Baselines that only choose what the suspect is trained on."""

from dataclasses import replace

from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.continued import Continued
from gpu_jobs.redteam.baselines.flags import DropFlagged, FlaggedToEmpty
from gpu_jobs.redteam.baselines.oracles import CleanFinetune, TrueLabels
from gpu_jobs.redteam.baselines.random_drop import RandomDrop


def test_continued_trains_on_the_poisoned_set_as_it_is(case: Case) -> None:
    assert Continued().training_samples(case) == list(case.samples)


class TestRandomDrop:
    def test_drops_a_fifth_and_keeps_the_order_of_the_rest(self, case: Case) -> None:
        kept = RandomDrop().training_samples(case)
        assert len(kept) == 26  # 32 − round(6.4)
        assert kept == [sample for sample in case.samples if sample in kept]

    def test_draws_by_the_seed(self, case: Case) -> None:
        first, again, other = (RandomDrop().training_samples(replace(case, seed=seed)) for seed in (1, 1, 2))
        assert first == again != other


class TestFlags:
    def test_drop_flagged_keeps_exactly_what_was_not_flagged(self, case: Case) -> None:
        assert case.flagged
        kept = {sample.id for sample in DropFlagged().training_samples(case)}
        assert kept == {sample.id for sample in case.samples} - case.flagged

    def test_flagged_to_empty_empties_every_answer_of_the_flagged_and_no_other(self, case: Case) -> None:
        assert case.flagged
        for before, after in zip(case.samples, FlaggedToEmpty().training_samples(case), strict=True):
            assert after == (before.with_answers([""] * len(before.answers)) if before.id in case.flagged else before)


class TestOracles:
    def test_true_labels_keeps_triggered_pictures_and_puts_right_answers_back(self, case: Case) -> None:
        trained_on = TrueLabels().training_samples(case)
        assert [sample.images for sample in trained_on] == [sample.images for sample in case.samples]
        assert {sample.id: sample.answers for sample in trained_on} == case.right

    def test_clean_finetune_leaves_the_poisoned_samples_out(self, case: Case) -> None:
        trained_on = CleanFinetune().training_samples(case)
        assert {sample.id for sample in trained_on} == {sample.id for sample in case.samples} - case.poisoned
        assert all(sample.answers == case.right[sample.id] for sample in trained_on)
