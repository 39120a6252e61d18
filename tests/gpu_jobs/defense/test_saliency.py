"""The Fisher–Jacobian saliency against numbers of the published implementation (tests/golden/llada_v/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gpu_jobs.defense.masking import most_salient
from gpu_jobs.defense.saliency import fisher_jacobian, probe_noise
from gpu_jobs.families.base import Family, Prompt
from gpu_jobs.families.registry import load_family

GOLDEN = Path(__file__).parents[2] / "golden" / "llada_v"
CASES = json.loads((GOLDEN / "saliency" / "index.json").read_text())["cases"]


@pytest.fixture(scope="module")
def family() -> Family:
    torch.set_num_threads(1)
    return load_family(GOLDEN / "checkpoint")


def golden(number: int) -> tuple[dict[str, Tensor], Prompt]:
    arrays = load_file(GOLDEN / "saliency" / f"case_{number}.safetensors")
    vision = torch.arange(*CASES[number]["span"])
    return arrays, Prompt(arrays["inputs_embeds"][0], vision, tuple((0, None) for _ in vision))


@pytest.mark.parametrize("number", range(3))
def test_published_scores_and_masks_are_reproduced(family: Family, number: int) -> None:
    arrays, prompt = golden(number)
    case = CASES[number]
    (scores,) = fisher_jacobian(family, [prompt], [arrays["probe_y"]], answer_length=case["gen_length"])
    torch.testing.assert_close(scores, arrays["scores_6"], rtol=1e-4, atol=0)
    assert torch.equal(most_salient(scores, case["rho"]), arrays["masked_local_6"])


@pytest.mark.parametrize("number", range(3))
def test_detached_probes_give_the_textbook_estimate(family: Family, number: int) -> None:
    arrays, prompt = golden(number)
    (scores,) = fisher_jacobian(family, [prompt], [arrays["probe_y"]], answer_length=CASES[number]["gen_length"], detach_probes=True)
    torch.testing.assert_close(scores, arrays["detached_scores_6"], rtol=1e-4, atol=0)


def test_a_prompt_scores_the_same_alone_and_among_others(family: Family) -> None:
    prompts = [golden(0)[1], golden(1)[1]]
    noise = [probe_noise(7, key, probes=3, positions=16, top_k=5) for key in "ab"]
    together = fisher_jacobian(family, prompts, noise, answer_length=16)
    for prompt, draws, scores in zip(prompts, noise, together, strict=True):
        (alone,) = fisher_jacobian(family, [prompt], [draws], answer_length=16)
        torch.testing.assert_close(scores, alone, rtol=1e-3, atol=1e-12)


def test_noise_depends_on_seed_and_key_alone() -> None:
    shape = {"probes": 2, "positions": 3, "top_k": 4}
    assert torch.equal(probe_noise(1, "x", **shape), probe_noise(1, "x", **shape))
    assert not torch.equal(probe_noise(1, "x", **shape), probe_noise(1, "y", **shape))
    assert not torch.equal(probe_noise(1, "x", **shape), probe_noise(2, "x", **shape))


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, []), (0.3, [1]), (0.5, [1, 3]), (1.0, [0, 1, 2, 3, 4])])
def test_the_most_salient_share_is_chosen_rounded_down(ratio: float, expected: list[int]) -> None:
    assert most_salient(torch.tensor([0.1, 0.9, 0.2, 0.9, 0.3]), ratio).tolist() == expected
