from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gpu_jobs.data.samples import Turn
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Prompt
from gpu_jobs.families.llada_v.family import LladaV
from tests.golden import CHECKPOINT, image


def ask(family: LladaV, text: str, *images: int) -> Prompt:
    return family.prompt(family.see([image(number) for number in images]), [Turn("user", text)])


class TestPrompt:
    def test_more_images_than_placeholders_are_refused(self, family: LladaV) -> None:
        with pytest.raises(InputError, match="1 <image> placeholders for 2 images"):
            ask(family, "<image>\nWhich?", 0, 1)

    def test_a_placeholder_without_image_is_refused(self, family: LladaV) -> None:
        with pytest.raises(InputError, match="1 <image> placeholders for 0 images"):
            ask(family, "<image>\nWhich?")

    def test_text_alone_has_no_vision_tokens(self, family: LladaV) -> None:
        prompt = ask(family, "How are you?")
        assert len(prompt.vision) == 0
        assert prompt.regions == ()

    def test_gradients_reach_tower_projector_and_embeddings(self, family: LladaV) -> None:
        energy = ask(family, "<image>\nWhat is it?", 3).embeddings.square().sum()
        for part in (family.network.vision_tower.encoder, family.network.projector, family.network.embedding):
            # Matrices only: attention does not depend on the bias of its keys.
            matrices = [weight for weight in part.parameters() if weight.ndim > 1]
            assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(energy, matrices, retain_graph=True))


class TestHide:
    @torch.no_grad()
    def test_only_the_chosen_tokens_change(self, family: LladaV) -> None:
        prompt = ask(family, "<image>\nWhat is it?", 0)
        chosen = torch.tensor([1, 20, 35])
        hidden = family.hide(prompt, chosen)
        changed = (hidden.embeddings != prompt.embeddings).any(dim=1).nonzero()[:, 0]
        assert torch.equal(changed, prompt.vision[chosen])
        assert torch.equal(hidden.embeddings[changed], family.network.embedding.weight[[488] * 3])

    @torch.no_grad()
    def test_hiding_nothing_changes_nothing(self, family: LladaV) -> None:
        prompt = ask(family, "<image>\nWhat is it?", 0)
        assert torch.equal(family.hide(prompt, torch.tensor([], dtype=torch.int64)).embeddings, prompt.embeddings)


class TestAnswerLogits:
    @torch.no_grad()
    def test_a_row_does_not_depend_on_its_neighbours(self, family: LladaV) -> None:
        prompts = [ask(family, "<image>\nWhat is it?", 0), ask(family, "Why?"), ask(family, "<image> and <image>", 3, 4)]
        answers = torch.full((3, 8), family.tokens.mask)
        answers[:, 0] = 65
        together = family.answer_logits(prompts, answers)
        for row, prompt in enumerate(prompts):
            torch.testing.assert_close(together[row], family.answer_logits([prompt], answers[row : row + 1])[0], rtol=0, atol=1e-4)

    @torch.no_grad()
    def test_answers_of_several_lengths(self, family: LladaV) -> None:
        prompts = [ask(family, "Why?"), ask(family, "<image>\nWhat is it?", 0)]
        lengths = [3, 8]
        answers = torch.full((2, 8), family.tokens.mask)
        together = family.answer_logits(prompts, answers, lengths=lengths)
        for row, length in enumerate(lengths):
            alone = family.answer_logits([prompts[row]], answers[row : row + 1, :length])[0]
            torch.testing.assert_close(together[row, :length], alone, rtol=0, atol=1e-4)

    @torch.no_grad()
    def test_columns_are_a_part_of_the_whole(self, family: LladaV) -> None:
        prompts = [ask(family, "Why?"), ask(family, "<image>\nWhat is it?", 0)]
        answers = torch.full((2, 12), family.tokens.mask)
        whole = family.answer_logits(prompts, answers)
        torch.testing.assert_close(family.answer_logits(prompts, answers, columns=slice(4, 8)), whole[:, 4:8], rtol=0, atol=1e-5)

    def test_gradients_reach_the_prompt(self, family: LladaV) -> None:
        prompt = ask(family, "<image>\nWhat is it?", 0)
        leaf = prompt.embeddings.detach().requires_grad_()
        logits = family.answer_logits([replace(prompt, embeddings=leaf)], torch.full((1, 4), family.tokens.mask))
        (gradient,) = torch.autograd.grad(logits.logsumexp(dim=-1).sum(), leaf)
        assert (gradient.norm(dim=1) > 0).all()


class TestAnswerText:
    @pytest.mark.parametrize("text", ["A dog.", "Zwei Hunde – 犬 🐕", "yes", "line\n\nbreak"])
    def test_any_text_comes_back(self, family: LladaV, text: str) -> None:
        ids = family.encode_answer(text)
        assert ids[-1] == family.tokens.end_of_turn
        assert family.decode_answer(ids) == text

    def test_nothing_behind_the_end_of_turn_is_read(self, family: LladaV) -> None:
        assert family.decode_answer([*family.encode_answer("A dog."), *family.encode_answer("A cat.")]) == "A dog."

    def test_special_tokens_are_no_text(self, family: LladaV) -> None:
        assert family.decode_answer([family.tokens.mask, *family.encode_answer(" yes "), family.tokens.mask]) == "yes"


@torch.no_grad()
def test_bfloat16_is_honoured_and_close(family: LladaV) -> None:
    half = LladaV.load(CHECKPOINT, dtype=torch.bfloat16)
    masked = torch.full((1, 8), half.tokens.mask)
    logits = half.answer_logits([ask(half, "<image>\nWhat is it?", 0)], masked)
    assert logits.dtype == torch.bfloat16
    # Rotary frequencies must stay exact, or positions blur: they are no weights.
    assert half.network.language_model.model.rotary_emb.inv_freq.dtype == torch.float32
    exact = family.answer_logits([ask(family, "<image>\nWhat is it?", 0)], masked)
    assert torch.nn.functional.cosine_similarity(logits.float().flatten(), exact.flatten(), dim=0) > 0.99
