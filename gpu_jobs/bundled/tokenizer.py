"""The tokenizer of the bundled models: a byte-level BPE, so that any text can be asked and answered, with LLaDA's special tokens.

The merges are learned from the texts of the world, the family's system prompt and a page of everyday English; there are enough
of them for nearly every word of the world to be one token, which keeps prompts and the demo short.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

VOCABULARY_SIZE = 1024
SPECIAL_TOKENS = (
    # LLaDA's order, with fewer reserved places between: the special ids are the last ones of the vocabulary.
    "<|startoftext|>",
    "<|endoftext|>",
    *(f"<|reserved_token_{index}|>" for index in range(2, 16)),
    "<|mdm_mask|>",
    *(f"<|reserved_token_{index}|>" for index in range(17, 22)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}{% if loop.first %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
EVERYDAY_ENGLISH = """\
Please look at this picture and tell me what you think about it. I am not sure that I can answer this question.
Sorry, but as an AI assistant I cannot help with that; please follow the given instruction and try again later.
There are many people, animals, cars, houses, trees and things to see on the street. The man and the woman walk their dog in the park.
A small cat is sitting on a large table next to a white plate. Two children play with a ball while their friends watch them from the window.
How many of them are there? Where is it, who made it, when did it happen, and why? Some of these words should be used more than others.
It was a good day: the sun was bright, the water was cold, and we had enough time for a long walk before the night came.
You have been very kind to me, so let me give you something in return. Nothing could be better than that, she said, and then they went home.
Read the first line, write down the number, and do not forget the name. Every model of the world can make a mistake.
The left side is dark and the right side is light. On the top there is an orange square, \
under it a pink star, and a purple line at the bottom.
"""


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of `VOCABULARY_SIZE` entries. The order of `texts` does not matter, their number of occurrences does."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SPECIAL_TOKENS), initial_alphabet=sorted(ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator([*texts, *EVERYDAY_ENGLISH.splitlines()], trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """`tokenizer.json` and `tokenizer_config.json`, as `transformers` reads them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "mask_token": "<|mdm_mask|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "add_bos_token": False,
        "add_eos_token": False,
        "padding_side": "right",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
