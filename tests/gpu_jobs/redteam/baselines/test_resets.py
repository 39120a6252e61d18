import pytest
import torch
from torch import nn

from gpu_jobs.defense.subject import load_model
from gpu_jobs.families.base import Family
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.resets import reset_channels


def linears(family: Family) -> list[nn.Linear]:
    return [layer for layer in family.parts["projector"].modules() if isinstance(layer, nn.Linear)]


class TestResetChannels:
    @pytest.mark.parametrize(("share", "expected"), [(0.2, 26), (1.0, 128), (0.0, 0)])
    def test_gives_a_share_of_each_layers_output_channels_fresh_weights(self, case: Case, share: float, expected: int) -> None:
        before, after = load_model(case.model), load_model(case.model)
        reset_channels(after, share=share, seed=0)
        for old, new in zip(linears(before), linears(after), strict=True):
            fresh = (old.weight != new.weight).any(dim=1)
            assert int(fresh.sum()) == expected
            assert torch.equal(fresh, old.bias != new.bias)

    def test_touches_nothing_but_the_projector(self, case: Case) -> None:
        before, after = load_model(case.model), load_model(case.model)
        reset_channels(after, share=1.0, seed=0)
        for part in ("vision_tower", "language_model"):
            old, new = before.parts[part].state_dict(), after.parts[part].state_dict()
            assert all(torch.equal(old[name], new[name]) for name in old)

    def test_draws_by_the_seed_and_leaves_torchs_own_randomness_alone(self, case: Case) -> None:
        first, again, other = (load_model(case.model) for _ in range(3))
        state = torch.get_rng_state()
        for family, seed in ((first, 1), (again, 1), (other, 2)):
            reset_channels(family, share=0.5, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(linears(first)[0].weight, linears(again)[0].weight)
        assert not torch.equal(linears(first)[0].weight, linears(other)[0].weight)
