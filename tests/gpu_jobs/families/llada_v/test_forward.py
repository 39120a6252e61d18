from __future__ import annotations

import pytest
import torch

from gpu_jobs.families.base import Prompt
from gpu_jobs.families.llada_v.family import LladaV
from tests.golden import ROUNDING, image, index, tensors, turn

# Eager attention repeats the official order of operations; SDPA does not.
TOLERANCE = {"eager": 1e-5, "sdpa": 1e-4}


@pytest.fixture(params=["eager", "sdpa"])
def model(request: pytest.FixtureRequest, official: LladaV) -> tuple[LladaV, float]:
    if request.param == "eager":
        return official, TOLERANCE["eager"]
    from tests.golden import CHECKPOINT

    return LladaV.load(CHECKPOINT, template="official"), TOLERANCE["sdpa"]


def golden_prompt(family: LladaV, case: int) -> Prompt:
    entry = index("forward/index.json")[case]
    turns = [turn(*message.split(": ", 1)) for message in entry["messages"]]
    return family.prompt(family.see([image(number) for number in entry["images"]]), turns)


@pytest.mark.parametrize("case", range(4), ids=["plain", "image in mid-sentence", "two images", "several turns"])
@torch.no_grad()
def test_embeddings_and_logits_are_the_official_ones(model: tuple[LladaV, float], case: int) -> None:
    family, tolerance = model
    golden, prompt = tensors(f"forward/case_{case}"), golden_prompt(family, case)
    torch.testing.assert_close(prompt.embeddings, golden["inputs_embeds"][0], rtol=0, atol=5e-5 * ROUNDING)
    logits = family.network.logits(family.network.hidden_states(prompt.embeddings[None]))
    torch.testing.assert_close(logits[:, :8], golden["logits_first8"], rtol=0, atol=tolerance * ROUNDING)
    torch.testing.assert_close(logits[:, -32:], golden["logits_last32"], rtol=0, atol=tolerance * ROUNDING)
    torch.testing.assert_close(logits.logsumexp(dim=-1), golden["logsumexp"], rtol=0, atol=tolerance * ROUNDING)
    assert torch.equal(logits.argmax(dim=-1), golden["argmax"].long())
    if "logits" in golden:
        torch.testing.assert_close(logits, golden["logits"], rtol=0, atol=tolerance * ROUNDING)
    masked = torch.full((1, 16), family.tokens.mask)
    torch.testing.assert_close(family.answer_logits([prompt], masked), golden["answer16_logits"], rtol=0, atol=tolerance * ROUNDING)


@torch.no_grad()
def test_a_batch_padded_the_official_way_gives_the_official_logits(model: tuple[LladaV, float]) -> None:
    family, tolerance = model
    golden = tensors("forward/batch2")
    embeddings = golden["inputs_embeds"]
    logits = family.network.logits(family.network.hidden_states(embeddings))
    torch.testing.assert_close(logits[:, :8], golden["logits_first8"], rtol=0, atol=tolerance * ROUNDING)
    torch.testing.assert_close(logits[:, -32:], golden["logits_last32"], rtol=0, atol=tolerance * ROUNDING)
    torch.testing.assert_close(logits.logsumexp(dim=-1), golden["logsumexp"], rtol=0, atol=tolerance * ROUNDING)


@torch.no_grad()
def test_vision_positions_are_those_of_the_spans(official: LladaV) -> None:
    seen = official.see([image(0), image(3)])
    prompt = official.prompt(seen, [turn("user", "<image>\n<image>\nHow many people are there?")])
    assert torch.equal(prompt.embeddings[prompt.vision], torch.cat(official.spans(seen)))
    assert [number for number, _ in prompt.regions] == [0] * 36 + [1] * 52
    assert len(prompt.regions) == len(prompt.vision)
