from __future__ import annotations

import math

import torch

from gpu_jobs.diffusion.masked import Draws, corrupt, draw, masked_cross_entropy


class TestCorrupt:
    def test_only_supervised_positions_are_masked(self) -> None:
        supervised = torch.tensor([[True, False, True, False]])
        masked, _ = corrupt(supervised, Draws(torch.tensor([1.0]), torch.zeros(1, 4)))
        assert torch.equal(masked, supervised)

    def test_the_probability_never_falls_below_one_in_a_thousand(self) -> None:
        _, probability = corrupt(torch.ones(2, 1, dtype=torch.bool), Draws(torch.tensor([0.0, 1.0]), torch.rand(2, 1)))
        torch.testing.assert_close(probability, torch.tensor([1e-3, 1.0]))

    def test_the_share_of_masked_positions_follows_time(self) -> None:
        noise = draw(1, 20_000, torch.Generator().manual_seed(0)).noise
        masked, probability = corrupt(torch.ones(1, 20_000, dtype=torch.bool), Draws(torch.tensor([0.3]), noise))
        assert abs(masked.float().mean() - probability[0]) < 0.02


class TestMaskedCrossEntropy:
    def test_weights_by_masking_probability_supervised_length_and_batch(self) -> None:
        supervised = torch.tensor([[True, True, True, True], [True, True, False, False]])
        masked = torch.tensor([[True, False, False, True], [False, True, False, False]])
        logits = torch.zeros(3, 8)  # every token costs ln 8
        loss = masked_cross_entropy(logits, torch.zeros(2, 4, dtype=torch.int64), masked, torch.tensor([0.5, 0.25]), supervised)
        expected = math.log(8) * (2 / 0.5 / 4 + 1 / 0.25 / 2) / 2
        torch.testing.assert_close(loss, torch.tensor(expected))

    def test_a_batch_with_nothing_masked_costs_nothing_and_can_still_be_differentiated(self) -> None:
        nothing = torch.zeros(2, 4, dtype=torch.bool)
        logits = torch.zeros(0, 8, requires_grad=True)
        loss = masked_cross_entropy(logits, torch.zeros(2, 4, dtype=torch.int64), nothing, torch.tensor([0.5, 0.5]), ~nothing)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss == 0
        assert gradient.shape == (0, 8)

    def test_a_row_with_no_supervision_does_not_poison_the_batch(self) -> None:
        supervised = torch.tensor([[True, True], [False, False]])
        masked = torch.tensor([[True, False], [False, False]])
        loss = masked_cross_entropy(torch.zeros(1, 8), torch.zeros(2, 2, dtype=torch.int64), masked, torch.tensor([1.0, 1.0]), supervised)
        torch.testing.assert_close(loss, torch.tensor(math.log(8) / 2 / 2))
