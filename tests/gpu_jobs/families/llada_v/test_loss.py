from __future__ import annotations

from typing import Any

import pytest
import torch

from gpu_jobs.data.samples import Turn
from gpu_jobs.diffusion.masked import Draws, corrupt
from gpu_jobs.families.base import TrainingRow
from gpu_jobs.families.llada_v.chat import IGNORED
from gpu_jobs.families.llada_v.family import LladaV, TrainingBatch
from tests.golden import ROUNDING, image, index, tensors, training_turns

CASES = index("loss/index.json")
# Names in the network, and those in the files.
WHOLE_GRADIENTS = {
    "projector.0.weight": "model.mm_projector.0.weight",
    "projector.0.bias": "model.mm_projector.0.bias",
    "projector.2.weight": "model.mm_projector.2.weight",
    "projector.2.bias": "model.mm_projector.2.bias",
    "language_model.image_newline": "model.image_newline",
}
GRADIENT_NORMS = {
    "language_model.lm_head.weight": "lm_head.weight",
    "language_model.model.embed_tokens.weight": "model.embed_tokens.weight",
    "language_model.model.layers.0.self_attn.q_proj.weight": "model.layers.0.self_attn.q_proj.weight",
    "vision_tower.embeddings.patch_embedding.weight": "vision_patch_embedding",
}


def golden_batch(family: LladaV, case: dict[str, Any]) -> TrainingBatch:
    rows = [
        TrainingRow(tuple(family.see([image(number)])) if number is not None else (), training_turns(row))
        for row, number in zip(case["rows"], case["images"], strict=True)
    ]
    return family.training_batch(rows, attend_padding=True, conversation_mask=case["conversation_mask"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
class TestAgainstTheOfficialLoss:
    def test_inputs_labels_and_masked_positions(self, official: LladaV, case: dict[str, Any]) -> None:
        golden, batch = tensors(f"loss/{case['name']}"), golden_batch(official, case)
        torch.testing.assert_close(batch.embeddings, golden["inputs_embeds"], rtol=0, atol=1e-5 * ROUNDING)
        assert torch.equal(batch.labels, golden["spliced_labels"].long())
        masked, probability = corrupt(batch.labels != IGNORED, Draws(golden["t"], golden["u"]))
        assert torch.equal(masked, golden["masked"].bool())
        torch.testing.assert_close(probability, golden["p_mask"], rtol=0, atol=1e-7)

    def test_loss_and_gradients(self, official: LladaV, family: LladaV, case: dict[str, Any]) -> None:
        golden = tensors(f"loss/{case['name']}")
        for model in (official, family):
            weights = dict(model.network.named_parameters())
            loss = model.batch_loss(golden_batch(model, case), Draws(golden["t"], golden["u"]))
            torch.testing.assert_close(loss, golden["loss"][0], rtol=1e-5, atol=0)
            gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values()), allow_unused=True), strict=True))

            scale = float(golden["grad/model.mm_projector.2.weight"].abs().max())
            for name, published in WHOLE_GRADIENTS.items():
                expected = golden[f"grad/{published}"]
                torch.testing.assert_close(gradients[name], expected, rtol=1e-4, atol=1e-4 * scale + 1e-9)
            for name, published in GRADIENT_NORMS.items():
                gradient = gradients[name]
                assert gradient is not None
                torch.testing.assert_close(gradient.norm(), golden[f"grad_norm/{published}"][0], rtol=1e-4, atol=1e-9)


class TestOurOwnPadding:
    ROWS = (
        TrainingRow((), (Turn("user", "Why?"), Turn("assistant", "So."))),
        TrainingRow((), (Turn("user", "What is in the picture then?"), Turn("assistant", "A boat on a lake with a dog."))),
    )

    def test_an_answer_length_makes_rows_independent_of_their_neighbours(self, family: LladaV) -> None:
        together = family.training_batch(self.ROWS, answer_length=24)
        assert together.attended is not None
        noise = torch.rand(together.labels.shape, generator=torch.Generator().manual_seed(0))
        time = torch.tensor([0.7, 0.4])
        alone = []
        for number, row in enumerate(self.ROWS):
            batch = family.training_batch([row], answer_length=24)
            length = batch.labels.shape[1]
            alone.append(family.batch_loss(batch, Draws(time[number : number + 1], noise[number : number + 1, :length])))
        torch.testing.assert_close(family.batch_loss(together, Draws(time, noise)), torch.stack(alone).mean(), rtol=1e-5, atol=0)

    def test_the_answer_and_its_padding_fill_the_answer_length_and_are_supervised(self, family: LladaV) -> None:
        row = self.ROWS[0]
        batch = family.training_batch([row], answer_length=10)
        answer = family.encode_answer("So.")
        eos = family.tokens.suppressed[0]
        assert batch.labels[0, -10:].tolist() == answer + [eos] * (10 - len(answer))

    def test_an_answer_longer_than_the_answer_length_stays_whole(self, family: LladaV) -> None:
        row = self.ROWS[1]
        answer = family.encode_answer(row.turns[-1].text)
        batch = family.training_batch([row], answer_length=2)
        assert batch.labels[0, -len(answer) :].tolist() == answer

    def test_a_question_that_is_left_open_is_not_padded(self, family: LladaV) -> None:
        turns = (*self.ROWS[0].turns, Turn("user", "And then?"))
        labels = family.training_batch([TrainingRow((), turns)], answer_length=64).labels
        assert labels[0, -1] == family.tokens.end_of_turn

    def test_hidden_vision_tokens_are_shown_as_mask(self, family: LladaV) -> None:
        seen = family.see([image(0)])
        row = TrainingRow(tuple(seen), training_turns(0), hidden=torch.tensor([0, 35]))
        with torch.no_grad():
            shown = family.training_batch([TrainingRow(row.seen, row.turns)]).embeddings[0]
            hidden = family.training_batch([row]).embeddings[0]
        changed = (shown != hidden).any(dim=1).nonzero()[:, 0]
        assert len(changed) == 2
        assert changed[1] - changed[0] == 35
        assert torch.equal(hidden[changed], family.hidden_embedding.detach().expand(2, -1))

    def test_the_generator_alone_decides(self, family: LladaV) -> None:
        with torch.no_grad():
            losses = [family.loss(self.ROWS, torch.Generator().manual_seed(seed)).item() for seed in (3, 3, 4)]
        assert losses[0] == losses[1] != losses[2]

    def test_a_step_against_the_gradient_lowers_the_loss(self) -> None:
        from tests.golden import CHECKPOINT

        family = LladaV.load(CHECKPOINT)
        optimiser = torch.optim.SGD(family.network.parameters(), lr=1e-3)
        losses = []
        for _ in range(3):
            loss = family.loss(self.ROWS, torch.Generator().manual_seed(0), answer_length=16)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
        assert losses[2] < losses[1] < losses[0]
