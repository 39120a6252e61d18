from __future__ import annotations

from typing import Any

import pytest
import torch

from gpu_jobs.config import GenerationParameters
from gpu_jobs.data.samples import Turn
from gpu_jobs.diffusion.sampler import commits_per_step, generate, most_confident, predict
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import AnswerTokens, Prompt
from gpu_jobs.families.llada_v.family import LladaV
from tests.golden import CHECKPOINT, image, index

RUNS = index("generate/generate.json")["runs"]


def described(run: dict[str, Any]) -> str:
    options = f", guidance {run['cfg_scale']}" * (run["cfg_scale"] > 0) + ", suffix" * ("suffix_ids" in run)
    return f"prompt {run['prompt']}, image {run['image']}, {run['steps']} steps, {run['gen_length']}/{run['block_length']}{options}"


@pytest.fixture(scope="session")
def official() -> LladaV:
    return LladaV.load(CHECKPOINT, template="official")


@pytest.mark.parametrize("run", RUNS, ids=described)
class TestAgainstTheOfficialSampler:
    def test_the_same_tokens_are_generated(self, official: LladaV, run: dict[str, Any]) -> None:
        golden = index("generate/generate.json")
        numbers = run["image"] if isinstance(run["image"], list) else [run["image"]]
        prompt = official.prompt(official.see([image(n) for n in numbers]), [Turn("user", golden["prompt_texts"][run["prompt"]])])
        steps = run["steps"] // (run["gen_length"] // run["block_length"])
        parameters = GenerationParameters(block_length=run["block_length"], steps_per_block=steps)
        suffix = official.encode_answer(run.get("generation_suffix", ""))[:-1]
        assert suffix == run.get("suffix_ids", [])
        for stop, key in ((False, "tokens_no_stop"), (True, "tokens_stop_eot")):
            if key in run:
                (answer,) = generate(
                    official,
                    [prompt],
                    parameters,
                    max_new_tokens=run["gen_length"],
                    stop_at_end_of_turn=stop,
                    guidance_scale=run["cfg_scale"],
                    suffix=suffix,
                )
                assert answer + suffix == run[key]


class TestGenerate:
    @pytest.mark.parametrize("temperature", [0.0, 0.7])
    @pytest.mark.parametrize("stop", [True, False])
    def test_a_batch_gives_what_each_row_gets_alone(self, family: LladaV, prompts: list[Prompt], temperature: float, stop: bool) -> None:
        parameters = GenerationParameters(block_length=8, steps_per_block=4, temperature=temperature)

        def answer(asked: list[Prompt]) -> list[list[int]]:
            return generate(family, asked, parameters, max_new_tokens=20, seed=5, stop_at_end_of_turn=stop)

        assert answer(prompts) == [answer([prompt])[0] for prompt in prompts]

    def test_guidance_and_suffix_leave_rows_independent_too(self, family: LladaV, prompts: list[Prompt]) -> None:
        parameters = GenerationParameters(block_length=8, steps_per_block=8)
        suffix = family.encode_answer(" The car is blue.")

        def answer(asked: list[Prompt]) -> list[list[int]]:
            return generate(family, asked, parameters, max_new_tokens=12, guidance_scale=0.5, suffix=suffix)

        assert answer(prompts) == [answer([prompt])[0] for prompt in prompts]

    def test_guidance_that_is_off_costs_nothing(self, family: LladaV, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[int] = []
        forward = family.answer_logits

        def counted(rows: list[Prompt], *arguments: Any, **options: Any) -> torch.Tensor:
            sizes.append(len(rows))
            return forward(rows, *arguments, **options)

        monkeypatch.setattr(family, "answer_logits", counted)
        parameters = GenerationParameters(block_length=4, steps_per_block=1)
        for scale in (0.0, 0.5):
            generate(family, prompts[:3], parameters, max_new_tokens=4, guidance_scale=scale)
        assert sizes == [3, 6]

    def test_the_seed_decides_at_a_temperature(self, family: LladaV, prompts: list[Prompt]) -> None:
        parameters = GenerationParameters(block_length=8, steps_per_block=8, temperature=1.0)
        runs = [generate(family, prompts[:1], parameters, max_new_tokens=8, seed=seed) for seed in (1, 1, 2)]
        assert runs[0] == runs[1] != runs[2]

    def test_every_position_is_filled_by_a_token_that_is_allowed(self, family: LladaV, prompts: list[Prompt]) -> None:
        parameters = GenerationParameters(block_length=6, steps_per_block=4, temperature=2.0)
        answers = generate(family, prompts, parameters, max_new_tokens=15, stop_at_end_of_turn=False)
        never = {family.tokens.mask, *family.tokens.suppressed}
        assert [len(answer) for answer in answers] == [15] * 4
        assert not any(never & set(answer) for answer in answers)

    def test_no_prompts_give_no_answers(self, family: LladaV) -> None:
        assert generate(family, [], GenerationParameters(), max_new_tokens=8) == []

    def test_a_finished_row_costs_no_more_forwards(self, family: LladaV, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[int] = []
        forward = family.answer_logits

        def counted(rows: list[Prompt], *arguments: Any, **options: Any) -> torch.Tensor:
            sizes.append(len(rows))
            logits = forward(rows, *arguments, **options)
            if prompts[0] in rows:  # this row says end-of-turn at once
                logits[rows.index(prompts[0]), :, family.tokens.end_of_turn] = 1e4
            return logits

        monkeypatch.setattr(family, "answer_logits", counted)
        parameters = GenerationParameters(block_length=8, steps_per_block=8)
        answers = generate(family, prompts[:2], parameters, max_new_tokens=8)
        assert answers[0] == []
        assert sizes[0] == 2
        assert sizes[-1] == 1
        assert 2 not in sizes[1:]


class TestCommitsPerStep:
    def test_the_remainder_goes_first(self) -> None:
        assert commits_per_step(12, 5) == [3, 3, 2, 2, 2]

    def test_steps_that_commit_nothing_are_left_out(self) -> None:
        assert commits_per_step(3, 8) == [1, 1, 1]


class TestPredict:
    TOKENS = AnswerTokens(mask=0, end_of_turn=1, suppressed=(2,))

    def test_suppressed_tokens_have_no_share(self) -> None:
        logits = torch.tensor([[[9.0, 0.0, 9.0, 1.0]]])
        predicted, odds = predict(logits, self.TOKENS, 0.0, torch.Generator())
        assert predicted.item() == 3
        torch.testing.assert_close(odds, torch.exp(torch.tensor([[-1.0]])))

    def test_odds_stay_apart_where_probabilities_round_to_one(self) -> None:
        logits = torch.tensor([[[0.0, -60.0, 0.0, 0.0], [0.0, -50.0, 0.0, 0.0]]])
        _, odds = predict(logits, self.TOKENS, 0.0, torch.Generator())
        assert 0 < odds[0, 0] < odds[0, 1]

    def test_logits_that_are_no_numbers_are_refused(self) -> None:
        with pytest.raises(InputError, match="not all numbers"):
            predict(torch.full((1, 1, 4), torch.nan), self.TOKENS, 0.0, torch.Generator())

    def test_gumbel_noise_samples_the_softmax(self) -> None:
        shares = torch.tensor([0.0, 0.2, 0.0, 0.8])
        logits = shares.log().clamp(min=-1e9).expand(1, 20_000, 4).clone()
        predicted, _ = predict(logits, self.TOKENS, 1.0, torch.Generator().manual_seed(0))
        assert abs((predicted == 3).float().mean() - 0.8) < 0.01


class TestMostConfident:
    def test_takes_the_least_odds_among_the_wanted(self) -> None:
        odds = torch.tensor([[0.1, 0.5, 0.2, 0.3]])
        wanted = torch.tensor([[False, True, True, True]])
        assert most_confident(odds, wanted, 2).tolist() == [[False, False, True, True]]

    def test_takes_no_more_than_are_wanted(self) -> None:
        assert most_confident(torch.tensor([[0.1, 0.2]]), torch.tensor([[False, True]]), 2).tolist() == [[False, True]]

    def test_takes_a_wanted_position_even_at_infinite_odds(self) -> None:
        odds = torch.tensor([[0.1, torch.inf]])
        assert most_confident(odds, torch.tensor([[False, True]]), 1).tolist() == [[False, True]]
