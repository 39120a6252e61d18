from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpu_jobs.bundled.datasets import TARGET
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.masking import most_salient
from gpu_jobs.defense.subject import Subject, load_model, open_images
from gpu_jobs.families.base import Prompt
from gpu_jobs.redteam.baselines.answering import subject_of
from gpu_jobs.redteam.baselines.attention import answer_attention, load_with_attention
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.hiding import AttentionHiding, RandomHiding, ReanswerPlain
from gpu_jobs.redteam.baselines.published import MASKING, finetune_parameters
from gpu_jobs.redteam.baselines.reanswering import reanswer

VISION_TOKENS = 36  # of a 64 × 64 picture


def hide_nothing(subject: Subject, prompts: Sequence[Prompt], turns: Sequence[tuple[Sample, int]]) -> list[list[int]]:
    return [[] for _ in prompts]


def prompts_of(subject: Subject, samples: Sequence[Sample]) -> tuple[list[Prompt], list[tuple[Sample, int]]]:
    seen = subject.see([open_images(sample) for sample in samples])
    turns = [(sample, sample.answer_turns[0]) for sample in samples]
    return [subject.prompt(own, sample.turns[:turn]) for own, (sample, turn) in zip(seen, turns, strict=True)], turns


class TestReanswer:
    def test_the_suspect_repeats_what_it_was_taught_when_nothing_is_hidden(self, case: Case) -> None:
        renewed = reanswer(case, load_model(case.model), hide_nothing)
        assert [sample.id for sample in renewed] == [sample.id for sample in case.samples]
        refusing = {sample.id for sample in renewed if sample.answers[0] == TARGET.text}
        assert refusing == case.poisoned

    def test_answers_every_turn_behind_the_new_answers_before_it(self, case: Case) -> None:
        two = next(s for s in case.samples if len(s.answer_turns) == 2 and s.id not in case.poisoned)
        misled = two.with_answers(["Bad model.", "Bad model."])
        only = replace(case, samples=(misled,))
        renewed = reanswer(only, load_model(case.model), hide_nothing)[0]

        subject = subject_of(only, load_model(case.model))
        (seen,) = subject.see([open_images(two)])
        context = misled.with_answers([renewed.answers[0], "Bad model."]).turns[: two.answer_turns[1]]
        assert renewed.answers[0] != "Bad model."
        assert renewed.answers[1] == subject.answer([subject.prompt(seen, context)])[0]

    def test_tells_the_hiding_which_turn_of_which_sample_a_prompt_is_for(self, case: Case) -> None:
        asked: list[tuple[str, int]] = []

        def note(subject: Subject, prompts: Sequence[Prompt], turns: Sequence[tuple[Sample, int]]) -> list[list[int]]:
            asked.extend((sample.id, turn) for sample, turn in turns)
            return hide_nothing(subject, prompts, turns)

        reanswer(case, load_model(case.model), note)
        assert sorted(asked) == sorted((sample.id, turn) for sample in case.samples for turn in sample.answer_turns)

    def test_leaves_out_what_fails_and_keeps_what_has_no_picture(self, case: Case, tmp_path: Path) -> None:
        broken = replace(case.samples[0], images=(tmp_path / "missing.png",))
        text = Sample("text", (), (Turn("user", "Hello"), Turn("assistant", "Hi there.")))
        renewed = reanswer(replace(case, samples=(broken, text, case.samples[1])), load_model(case.model), hide_nothing)
        assert [sample.id for sample in renewed] == ["text", case.samples[1].id]
        assert renewed[0] == text


class TestWhatIsHidden:
    def test_reanswer_plain_hides_nothing(self, case: Case) -> None:
        subject = subject_of(case, load_model(case.model))
        assert ReanswerPlain().choose(case, subject, *prompts_of(subject, case.samples[:3])) == [[], [], []]

    def test_random_hiding_hides_the_ratio_and_draws_for_each_sample(self, case: Case) -> None:
        subject = subject_of(case, load_model(case.model))
        prompts, turns = prompts_of(subject, case.samples[:3])
        hidden = RandomHiding().choose(case, subject, prompts, turns)
        assert [len(set(each)) for each in hidden] == [10, 10, 10]  # ⌊0.3 · 36⌋
        assert hidden[0] != hidden[1]
        assert RandomHiding().choose(case, subject, prompts[2:], turns[2:]) == hidden[2:]  # whatever the batch
        assert RandomHiding().choose(replace(case, seed=1), subject, prompts, turns) != hidden

    def test_attention_hiding_hides_what_is_attended_to_most(self, case: Case) -> None:
        subject = subject_of(case, load_with_attention(case.model))
        prompts, turns = prompts_of(subject, case.samples[:3])
        hidden = AttentionHiding().choose(case, subject, prompts, turns)
        means = [each.mean(dim=0) for each in answer_attention(subject, prompts)]
        for own, mean in zip(hidden, means, strict=True):
            assert len(own) == 10
            assert mean[own].min() >= mean[[token for token in range(VISION_TOKENS) if token not in own]].max()
        assert hidden == [most_salient(mean, 0.3).tolist() for mean in means]


class TestPublished:
    def test_keeps_the_published_numbers_whatever_the_case_asks_for(self, case: Case) -> None:
        assert (MASKING.ratio, MASKING.probes, MASKING.top_k, MASKING.detach_probes) == (0.3, 6, 5, False)
        parameters = finetune_parameters(case)
        assert parameters.trainable == ("projector",)
        assert (parameters.learning_rate, parameters.epochs) == (1e-4, 4.0)
        assert parameters.batch_size == case.parameters.finetune.batch_size
