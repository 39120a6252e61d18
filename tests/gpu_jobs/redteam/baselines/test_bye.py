import numpy as np
import pytest
import torch

from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.bye import Bye, attention_entropies, collapsed, normalised_entropy
from gpu_jobs.redteam.baselines.mixture import fit_mixture


class TestMixture:
    def test_finds_two_clusters_of_different_size_and_width(self) -> None:
        rng = np.random.default_rng(0)
        mixture = fit_mixture(np.concatenate([rng.normal(0.9, 0.02, 850), rng.normal(0.5, 0.05, 150)]))
        assert mixture.means == pytest.approx([0.5, 0.9], abs=0.01)
        assert mixture.deviations == pytest.approx([0.05, 0.02], rel=0.2)
        assert mixture.weights == pytest.approx([0.15, 0.85], abs=0.01)
        assert mixture.separation == pytest.approx(0.4 / 0.07, rel=0.1)

    def test_one_normal_distribution_does_not_separate(self) -> None:
        assert all(fit_mixture(np.random.default_rng(seed).normal(size=500)).separation < 2 for seed in range(20))

    @pytest.mark.parametrize("values", [[0.5], [0.5] * 10], ids=["one", "equal"])
    def test_values_without_spread_do_not_separate(self, values: list[float]) -> None:
        mixture = fit_mixture(np.array(values))
        assert mixture.separation == 0
        assert not mixture.is_low(np.array(values)).any()

    def test_a_few_equal_values_beside_others_leave_numbers_that_are_numbers(self) -> None:
        mixture = fit_mixture(np.array([0.1, 0.1, 0.1, 0.7, 0.8, 0.9]))
        assert np.isfinite(mixture.separation)
        assert mixture.is_low(np.array([0.1, 0.8])).tolist() == [True, False]


class TestCollapsed:
    def test_flags_the_low_cluster_of_the_layers_that_separate(self) -> None:
        rng = np.random.default_rng(1)
        poisoned = np.arange(200) < 30
        separating = np.where(poisoned, rng.normal(0.4, 0.03, 200), rng.normal(0.9, 0.03, 200))
        # Were the second layer not left out, its spread would hide the first one's clusters.
        noise = rng.normal(0.5, 1.0, 200)
        assert (collapsed(np.stack([separating, noise], axis=1), 2.0) == poisoned).all()

    def test_flags_nothing_where_no_layer_separates(self) -> None:
        assert not collapsed(np.random.default_rng(2).normal(size=(200, 4)), 2.0).any()


class TestNormalisedEntropy:
    def test_is_one_for_even_attention_and_zero_for_a_single_token(self) -> None:
        single = torch.zeros(9)
        single[4] = 0.3
        entropy = normalised_entropy(torch.stack([torch.full((9,), 0.01), single]))
        assert entropy.tolist() == pytest.approx([1.0, 0.0])


class TestBye:
    def test_reads_one_entropy_a_layer_between_nothing_and_everything(self, case: Case) -> None:
        entropies = attention_entropies(case, case.samples)
        assert entropies.shape == (32, 4)
        assert ((entropies > 0) & (entropies <= 1)).all()

    def test_drops_exactly_what_has_collapsed(self, case: Case) -> None:
        low = collapsed(attention_entropies(case, case.samples), 0.5)
        assert low.any()
        kept = Bye(separation=0.5).training_samples(case)
        assert kept == [sample for sample, is_low in zip(case.samples, low, strict=True) if not is_low]

    def test_drops_nothing_where_no_layer_separates(self, case: Case) -> None:
        assert Bye(separation=1e6).training_samples(case) == list(case.samples)
