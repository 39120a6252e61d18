from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer

from gpu_jobs.data.samples import Turn
from gpu_jobs.errors import InputError
from gpu_jobs.families.llada_v.chat import IGNORED, IMAGE_ID, SYSTEM, Chat
from tests.golden import CHECKPOINT, index, training_turns, turn


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))


@pytest.fixture
def chat(tokenizer: Tokenizer) -> Chat:
    return Chat(tokenizer)


class TestTrainingRow:
    @pytest.mark.parametrize("row", range(3))
    def test_ids_and_labels_are_the_official_ones(self, chat: Chat, row: int) -> None:
        golden = index("chat/chat.json")["training"][row]
        assert chat.training_row(training_turns(row)) == (golden["input_ids"], golden["labels"])

    @pytest.mark.parametrize("row", range(3))
    def test_line_breaks_are_supervised_where_they_are_one_literal_token(self, tokenizer: Tokenizer, row: int) -> None:
        golden = index("chat/chat.json")["training_if_tokenizer_had_literal_nlnl_token"]
        tokenizer.add_tokens([AddedToken("\n\n", normalized=False)])
        assert tokenizer.token_to_id("\n\n") == golden["nlnl_token_id"]
        assert Chat(tokenizer).training_row(training_turns(row)) == (golden["rows"][row]["input_ids"], golden["rows"][row]["labels"])

    def test_a_system_turn_of_ones_own_takes_the_place_of_the_usual_one(self, chat: Chat, tokenizer: Tokenizer) -> None:
        own, _ = chat.training_row([Turn("system", "Be brief."), Turn("user", "Why?"), Turn("assistant", "So.")])
        text = tokenizer.decode(own, skip_special_tokens=False)
        assert "Be brief." in text
        assert SYSTEM not in text

    def test_several_images_stay_where_they_are(self, chat: Chat) -> None:
        ids, labels = chat.training_row([Turn("user", "What of <image> and <image>?"), Turn("assistant", "Yes")])
        places = [place for place, token in enumerate(ids) if token == IMAGE_ID]
        assert places[1] - places[0] > 1
        assert [labels[place] for place in places] == [IGNORED, IGNORED]


class TestOfficialPrompt:
    @pytest.mark.parametrize("case", range(3))
    def test_ids_are_the_official_ones(self, chat: Chat, case: int) -> None:
        golden = index("chat/chat.json")["inference"][case]
        turns = [turn(role, text) for role, text in golden["messages"]]
        assert chat.prompt(turns, "official") == golden["input_ids"]


class TestConsistentPrompt:
    @pytest.mark.parametrize(
        "turns",
        [
            [Turn("user", "<image>\nWhat is it?"), Turn("assistant", "A dog")],
            [Turn("user", "  What is <image> here? "), Turn("assistant", "42 dogs")],
            [Turn("user", "Hi"), Turn("assistant", "Hello."), Turn("user", "<image> or <image>?\n"), Turn("assistant", "The first.")],
            [Turn("assistant", "Welcome."), Turn("user", "Thanks"), Turn("assistant", "Ask.")],
        ],
    )
    def test_a_prompt_is_the_beginning_of_the_training_row(self, chat: Chat, turns: list[Turn]) -> None:
        row, _ = chat.training_row(turns)
        assert [*chat.prompt(turns[:-1], "consistent"), *chat.answer(turns[-1].text)] == row

    def test_no_token_behind_an_image_is_lost(self, chat: Chat) -> None:
        golden = index("chat/chat.json")["inference"][0]
        turns = [turn(role, text) for role, text in golden["messages"]]
        whole = golden["ids_if_no_token_were_dropped"]
        # All but the line breaks that end the header, which are written as they are before a word.
        assert chat.prompt(turns, "consistent")[: len(whole) - 1] == whole[:-1]


class TestSpecialTokens:
    def test_they_are_found_by_their_text(self, chat: Chat) -> None:
        ids = index("meta.json")["ids"]
        assert (chat.special.mask, chat.special.end_of_turn, chat.special.bos, chat.special.eos) == (488, 496, ids["bos"], ids["eos"])

    def test_a_vocabulary_without_mask_is_refused(self) -> None:
        raw = json.loads((CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))
        raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] != "<|mdm_mask|>"]
        with pytest.raises(InputError, match=r"<\|mdm_mask\|>"):
            Chat(Tokenizer.from_str(json.dumps(raw)))
