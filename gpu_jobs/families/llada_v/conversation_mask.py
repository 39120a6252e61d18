"""LLaDA-V's conversation mask: attention that is bidirectional within a round of a conversation and causal between rounds.

A round is a question and its answer; the system turn belongs to the first, padding behind the conversation to the last.
The released models were trained without this mask (`--use_conversation_mask False` in every published recipe).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpu_jobs.families.llada_v.chat import IGNORED


def causal_by_round(labels: Tensor, start_header: int) -> Tensor:
    """Which positions may attend to which.

    labels: [batch, length] int64 of whole training rows, `IGNORED` where not supervised.
    start_header: the token that opens every message; it is supervised in all of them.
    Returns: [batch, query, key] bool.
    """
    opens = labels == start_header
    # The token behind it, the role's name, is supervised in answers only.
    opens_answer = opens & (labels.roll(-1, dims=1) != IGNORED)
    positions = torch.arange(labels.shape[1], device=labels.device)
    last_opened = torch.where(opens, positions, 0).cummax(dim=1).values
    in_answer = opens_answer.gather(1, last_opened)  # [batch, length]
    rounds = torch.zeros_like(labels)
    rounds[:, 1:] = (in_answer[:, :-1] & ~in_answer[:, 1:]).cumsum(dim=1)
    return rounds[:, None, :] <= rounds[:, :, None]
