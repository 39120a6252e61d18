"""The architecture of the bundled models: LLaDA-V's published layout with small numbers, before any training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from gpu_jobs.bundled.tokenizer import train_tokenizer, write_tokenizer
from gpu_jobs.families.llada_v.chat import SYSTEM

IMAGE_SIZE = 64
PATCH_SIZE = 16
TOKENS_PER_SIDE = IMAGE_SIZE // PATCH_SIZE
HIDDEN_SIZE = 128
TOWER_FOLDER = "siglip-64px-patch16"

# 4 layers are used: LLaDA-V drops the last one of its tower.
TOWER = {
    "architectures": ["SiglipVisionModel"],
    "model_type": "siglip_vision_model",
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 256,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_channels": 3,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
LANGUAGE_MODEL = {
    "architectures": ["LlavaLLaDAModelLM"],
    "model_type": "llava_llada",
    "torch_dtype": "float32",
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 16384,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "pretraining_tp": 1,
    "use_cache": False,
    "use_mm_proj": True,
    "mm_vision_tower": TOWER_FOLDER,
    "mm_projector_type": "mlp2x_gelu",
    "mm_hidden_size": HIDDEN_SIZE,
    "mm_resampler_type": None,
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_newline_position": "grid",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "image_aspect_ratio": "anyres_max_4",
    "image_grid_pinpoints": "(1x1),...,(6x6)",
    "tokenizer_padding_side": "right",
    "tokenizer_model_max_length": 8192,
}


def write_blueprint(folder: Path, texts: Iterable[str]) -> None:
    """Write all of a checkpoint but its weights: `config.json`, the tower's own configuration and a tokenizer trained on the texts."""
    # The system prompt opens every conversation, so it counts as often as a common sentence: one token for nearly every word of it.
    tokenizer = train_tokenizer([*texts, *[SYSTEM] * 50, "system", "user", "assistant"])
    ids = {"bos_token_id": tokenizer.token_to_id("<|startoftext|>"), "eos_token_id": tokenizer.token_to_id("<|endoftext|>")}
    (folder / TOWER_FOLDER).mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", {**LANGUAGE_MODEL, "vocab_size": tokenizer.get_vocab_size(), **ids})
    _write_json(folder / "generation_config.json", ids)
    _write_json(folder / TOWER_FOLDER / "config.json", TOWER)
    write_tokenizer(tokenizer, folder)


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
