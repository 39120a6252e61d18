import pytest
import torch
from PIL import Image

from gpu_jobs.data.samples import Turn
from gpu_jobs.defense.subject import Subject, load_model
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import Prompt
from gpu_jobs.families.llada_v.family import LladaV
from gpu_jobs.redteam.baselines.answering import subject_of
from gpu_jobs.redteam.baselines.attention import answer_attention, load_with_attention
from gpu_jobs.redteam.baselines.base import Case


@pytest.fixture
def subject(case: Case) -> Subject:
    return subject_of(case, load_with_attention(case.model))


def prompt(subject: Subject, size: tuple[int, int]) -> Prompt:
    picture = Image.effect_noise(size, 60).convert("RGB")
    return subject.prompt(subject.see([[picture]])[0], [Turn("user", "<image>\nWhat is it?")])


class TestAnswerAttention:
    def test_is_what_the_network_itself_reports(self, subject: Subject) -> None:
        asked = prompt(subject, (64, 64))
        (found,) = answer_attention(subject, [asked])

        assert isinstance(subject.family, LladaV)
        language_model = subject.family.network.language_model.model
        masks = subject.family.hidden_embedding.expand(subject.answer_length, -1)
        with torch.no_grad():
            maps = language_model(inputs_embeds=torch.cat([asked.embeddings, masks])[None], output_attentions=True).attentions
        length = len(asked.embeddings)
        expected = torch.stack([each[0, :, length : length + subject.block_length].mean(dim=(0, 1))[asked.vision] for each in maps])
        torch.testing.assert_close(found, expected)

    def test_a_prompt_is_read_the_same_beside_a_longer_one(self, subject: Subject) -> None:
        short, long = prompt(subject, (64, 64)), prompt(subject, (128, 64))
        assert len(short.vision) < len(long.vision)
        together = answer_attention(subject, [short, long])
        assert [len(each[0]) for each in together] == [len(short.vision), len(long.vision)]
        torch.testing.assert_close(together[0], answer_attention(subject, [short])[0])

    def test_leaves_no_hook_behind(self, subject: Subject) -> None:
        answer_attention(subject, [prompt(subject, (64, 64))])
        assert not any(module._forward_hooks for module in subject.family.network.modules())

    def test_says_when_the_model_was_loaded_with_fused_attention(self, case: Case) -> None:
        fused = subject_of(case, load_model(case.model))
        with pytest.raises(InputError, match="load_with_attention"):
            answer_attention(fused, [prompt(fused, (64, 64))])


def test_answers_are_those_of_the_model_with_fused_attention(case: Case, subject: Subject) -> None:
    asked = [prompt(subject, (64, 64)) for _ in range(4)]
    assert subject.answer(asked) == subject_of(case, load_model(case.model)).answer(asked)
