"""LLaDA-V's networks out of transformers' classes: a bidirectional Llama, a SigLIP tower and a two-layer projector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaModel, SiglipVisionModel

from gpu_jobs.families.llada_v.config import LladaVConfig


class LanguageModel(nn.Module):
    """The diffusion language model, its head, and the vector that ends a row of vision tokens."""

    def __init__(self, config: LladaVConfig) -> None:
        super().__init__()
        llama = config.language_model
        self.model = LlamaModel(llama)
        self.lm_head = nn.Linear(llama.hidden_size, llama.vocab_size, bias=False)
        self.image_newline = nn.Parameter(torch.randn(llama.hidden_size) / math.sqrt(llama.hidden_size))
        for layer in self.model.layers:
            # transformers builds the masks from the configuration's `is_causal`, but where no mask is needed at all,
            # SDPA goes by this flag.
            layer.self_attn.is_causal = False  # type: ignore[union-attr]


class LladaVNetwork(nn.Module):
    """Owns all weights. Tensors in, tensors out; it knows no text, no image and no file."""

    def __init__(self, config: LladaVConfig) -> None:
        super().__init__()
        vision, hidden = config.tower.hidden_size, config.language_model.hidden_size
        self.vision_tower = SiglipVisionModel(config.tower)
        self.projector = nn.Sequential(nn.Linear(vision, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.language_model = LanguageModel(config)

    @property
    def embedding(self) -> nn.Embedding:
        embedding: nn.Embedding = self.language_model.model.embed_tokens
        return embedding

    def encode_views(self, pixels: Tensor) -> Tensor:
        """Tower features before its closing norm, which LLaDA-V leaves out: [views, 3, side, side] → [views, tokens, vision hidden]."""
        features: Tensor = self.vision_tower.encoder(inputs_embeds=self.vision_tower.embeddings(pixels)).last_hidden_state
        return features

    def hidden_states(self, embeddings: Tensor, attended: Tensor | None = None) -> Tensor:
        """[batch, length, hidden] → [batch, length, hidden], every position attending to all (or to the `attended` ones).

        attended: [batch, length] bool, False for padding that nothing may look at; or [batch, query, key] bool.
        """
        if attended is not None and attended.dim() == 3:
            # transformers takes a mask of four dimensions as it is; eager attention adds it to the scores.
            lowest = torch.finfo(embeddings.dtype).min
            attended = torch.zeros_like(attended, dtype=embeddings.dtype).masked_fill(~attended, lowest)[:, None]
        hidden: Tensor = self.language_model.model(inputs_embeds=embeddings, attention_mask=attended).last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[…, hidden] → […, vocab]."""
        logits: Tensor = self.language_model.lm_head(hidden)
        return logits


def pad_rows(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Rows of [length, hidden] as one batch, padded with zeros at the end, and which positions are real (None: all of them)."""
    lengths = [len(row) for row in rows]
    if min(lengths) == max(lengths):
        return torch.stack(list(rows)), None
    positions = torch.arange(max(lengths), device=rows[0].device)
    return pad_sequence(list(rows), batch_first=True), positions < torch.tensor(lengths, device=rows[0].device)[:, None]
