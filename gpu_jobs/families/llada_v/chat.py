"""How LLaDA-V writes a conversation down as token ids, to learn from it and to answer it.

The official code uses two layouts that differ. To *train*, a message's only `<image>` moves to its front, followed by
a line break; texts stay untrimmed; an opening assistant turn is dropped; headers and end-of-turn tokens of all turns are
supervised. To *answer*, texts are trimmed, `<image>` stays where it is, and the first token after each `<image>` is lost,
be it the line break, a word or an end-of-turn.

Here `consistent`, the default, answers in the training layout: a prompt is token by token the beginning of the training row
of the same conversation. The defence asks a model about its own training samples, and what was implanted was implanted
there. `official` answers in the official code's layout, to reproduce what a deployment of that code would say. The training
layout is the official one in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tokenizers import Tokenizer

from gpu_jobs.data.samples import Turn
from gpu_jobs.errors import InputError

Template = Literal["consistent", "official"]

SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
IMAGE = "<image>"
IMAGE_ID = -200  # stands for an image until its vision tokens take the place
IGNORED = -100  # label of a position that is not supervised


# Where each special token is found. The released vocabulary has them at 126080, 126081, 126346, 126347, 126348 and 126336.
STRINGS = {
    "bos": "<|startoftext|>",
    "eos": "<|endoftext|>",
    "start_header": "<|start_header_id|>",
    "end_header": "<|end_header_id|>",
    "end_of_turn": "<|eot_id|>",
    "mask": "<|mdm_mask|>",
}


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the tokens that the layout and the diffusion process need."""

    bos: int
    eos: int  # pads, too
    start_header: int
    end_header: int
    end_of_turn: int
    mask: int


class Chat:
    """Turns into token ids, with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.special = find_special_tokens(tokenizer)
        self._encode = lru_cache(maxsize=65536)(lambda text: tuple(tokenizer.encode(text, add_special_tokens=False).ids))
        special = self.special
        self._always_supervised = {special.bos, special.start_header, special.end_header, special.end_of_turn}
        if (line_break := tokenizer.token_to_id("\n\n")) is not None:
            self._always_supervised.add(line_break)

    def training_row(self, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
        """Token ids and labels of a whole conversation. `IMAGE_ID` marks images, `IGNORED` what is not supervised."""
        ids, labels = [self.special.bos], [self.special.bos]
        for turn in training_turns(turns):
            message = self._message(turn.role, turn.text)
            ids += message
            if turn.role == "assistant":
                labels += [IGNORED if token == IMAGE_ID else token for token in message]
            else:
                labels += [token if token in self._always_supervised else IGNORED for token in message]
        return ids, labels

    def prompt(self, turns: Sequence[Turn], template: Template) -> list[int]:
        """Token ids of a conversation that ends with the turn to be answered, assistant header included."""
        if template == "official":
            return self._official_prompt(turns)
        ids, _ = self.training_row(turns)
        return ids + self._opened_answer()

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer, closed by the end-of-turn token."""
        return [*self._encode(text), self.special.end_of_turn]

    def _message(self, role: str, text: str) -> list[int]:
        ids: list[int] = []
        for number, chunk in enumerate(f"{_header(role)}{text}<|eot_id|>".split(IMAGE)):
            ids += [IMAGE_ID] * (number > 0)
            ids += self._encode(chunk)
        return ids

    def _opened_answer(self) -> list[int]:
        """The assistant's header as it is tokenised before a word: line breaks may merge differently before nothing."""
        header, word = _header("assistant"), self._encode("A")
        ids = self._encode(header + "A")
        return list(ids[: -len(word)] if ids[-len(word) :] == word else self._encode(header))

    def _official_prompt(self, turns: Sequence[Turn]) -> list[int]:
        messages = "".join(f"{_header(turn.role)}{turn.text.strip()}<|eot_id|>" for turn in _with_system(turns))
        first, *others = f"<|startoftext|>{messages}{_header('assistant')}".split(IMAGE)
        ids = list(self._encode(first))
        for chunk in others:
            # The official code takes the first token of every chunk for a bos and drops it.
            ids += [IMAGE_ID, *self._encode(chunk)[1:]]
        return ids


def find_special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """Look the special tokens up by their text, so that any vocabulary will do.

    Raises:
        InputError: the vocabulary lacks one.
    """
    ids = {field: tokenizer.token_to_id(text) for field, text in STRINGS.items()}
    absent = [STRINGS[field] for field, found in ids.items() if found is None]
    if absent:
        raise InputError(f"tokenizer.json has no token {', '.join(absent)}; LLaDA-V needs it")
    return SpecialTokens(**{field: found for field, found in ids.items() if found is not None})


def training_turns(turns: Sequence[Turn]) -> list[Turn]:
    """The turns as the official training code arranges them."""
    system, *rest = _with_system(turns)
    if rest and rest[0].role == "assistant":
        rest = rest[1:]
    return [system, *(Turn(turn.role, _image_first(turn.text)) for turn in rest)]


def _with_system(turns: Sequence[Turn]) -> list[Turn]:
    if turns and turns[0].role == "system":
        return list(turns)
    return [Turn("system", SYSTEM), *turns]


def _image_first(text: str) -> str:
    if text.count(IMAGE) != 1 or text.startswith(IMAGE):
        return text
    return f"{IMAGE}\n{text.replace(IMAGE, '').strip()}".strip()


def _header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"
