"""What the defence is compared with (docs/method.md): doing nothing, rivals, controls and oracles, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gpu_jobs.redteam.baselines.base import Answerer, Baseline, Case
from gpu_jobs.redteam.baselines.bye import Bye
from gpu_jobs.redteam.baselines.continued import Continued
from gpu_jobs.redteam.baselines.flags import DropFlagged, FlaggedToEmpty
from gpu_jobs.redteam.baselines.hiding import AttentionHiding, RandomHiding, ReanswerPlain
from gpu_jobs.redteam.baselines.oracles import CleanFinetune, TrueLabels
from gpu_jobs.redteam.baselines.published import Published
from gpu_jobs.redteam.baselines.random_drop import RandomDrop
from gpu_jobs.redteam.baselines.resets import ChannelRestore, ProjectorReset
from gpu_jobs.redteam.baselines.transforms import Blur, Jpeg
from gpu_jobs.redteam.baselines.untouched import Untouched

__all__ = ["BASELINES", "Answerer", "Baseline", "Case"]

_ALL: tuple[Baseline, ...] = (
    Untouched(),
    Continued(),
    RandomDrop(),
    RandomHiding(),
    ReanswerPlain(),
    AttentionHiding(),
    Published(),
    Blur(),
    Jpeg(),
    Bye(),
    ProjectorReset(),
    ChannelRestore(),
    DropFlagged(),
    FlaggedToEmpty(),
    CleanFinetune(),
    TrueLabels(),
)

BASELINES: Mapping[str, Baseline] = MappingProxyType({baseline.name: baseline for baseline in _ALL})
