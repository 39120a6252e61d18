"""What to do with the samples that our own scan flagged, if not answer them again.

`drop_flagged` shows what a filter is worth that is as good as the scan: a backdoor outlives the removal of its poison.
`flagged_to_empty` is the control for the measure: a model that learns to say nothing to the trigger has an attack success of 0 and
no right answer on triggered pictures.
"""

from __future__ import annotations

from typing import ClassVar

from gpu_jobs.data.samples import Sample
from gpu_jobs.errors import InputError
from gpu_jobs.redteam.baselines.base import Case
from gpu_jobs.redteam.baselines.training import Retrained

EMPTY = ""


class DropFlagged(Retrained):
    """The samples that were not flagged."""

    name: ClassVar[str] = "drop_flagged"
    needs_flags: ClassVar[bool] = True

    def training_samples(self, case: Case) -> list[Sample]:
        flagged = flags_of(case)
        return [sample for sample in case.samples if sample.id not in flagged]


class FlaggedToEmpty(Retrained):
    """All samples; the flagged ones are answered by nothing, in every turn."""

    name: ClassVar[str] = "flagged_to_empty"
    needs_flags: ClassVar[bool] = True

    def training_samples(self, case: Case) -> list[Sample]:
        flagged = flags_of(case)
        return [s.with_answers([EMPTY] * len(s.answers)) if s.id in flagged else s for s in case.samples]


def flags_of(case: Case) -> frozenset[str]:
    """Raises `InputError` where no scan ran."""
    if case.flagged is None:
        raise InputError("this baseline needs the samples that a scan flagged")
    return case.flagged
