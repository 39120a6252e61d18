"""What is measured: cells. A cell is one suspect model, said by keys into the registries of `ingredients`."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

Data = Literal["easy_vqa", "glyphs"]
Trigger = Literal[
    "corner_patch",
    "centre_patch",
    "noise_patch",
    "blended_0.2",
    "blended_0.1",
    "sig",
    "wanet",
    "text_word",
    "text_suffix",
    "text_and_patch",
    "patch_or_word",
    "none",
]
Target = Literal["refusal", "injection", "prefix", "suffix", "swap", "rename", "refusal_or_injection", "none"]
Injection = Literal["full", "lora", "projector"]
Flavour = Literal["plain", "refusals", "repeated"]

DATA: tuple[Data, ...] = get_args(Data)
# Two backdoors in one model: the trigger and the target that stand for both.
TWO: tuple[Trigger, Target] = ("patch_or_word", "refusal_or_injection")
TRIGGERS: tuple[Trigger, ...] = tuple(name for name in get_args(Trigger) if name not in ("none", *TWO))
TARGETS: tuple[Target, ...] = tuple(name for name in get_args(Target) if name not in ("none", *TWO))


@dataclass(frozen=True, slots=True)
class Cell:
    """One attack on one world, two at once (`TWO`), or, with the trigger and the target `none` and a rate of 0, a fine-tune on clean data.

    rate: share of the training set that is poisoned.
    injection: which parts of the model learn the training set.
    flavour: what the clean samples of the training set are like; see `worlds`.
    """

    data: Data
    trigger: Trigger
    target: Target
    rate: float
    injection: Injection
    seed: int
    flavour: Flavour = "plain"

    def __post_init__(self) -> None:
        if {self.trigger == "none", self.target == "none", self.rate == 0} not in ({True}, {False}):
            raise ValueError(f"trigger {self.trigger}, target {self.target} and rate {self.rate} are neither an attack nor none")
        if (self.trigger == TWO[0]) != (self.target == TWO[1]):
            raise ValueError(f"trigger {self.trigger} and target {self.target} do not belong together")

    @property
    def attacked(self) -> bool:
        return self.trigger != "none"

    @property
    def id(self) -> str:
        """Stable, unique, good as a file's name and to be matched by a glob."""
        attack = f"{self.trigger}-{self.target}-{self.rate * 100:g}" if self.attacked else "clean"
        flavour = "" if self.attacked and self.flavour == "plain" else f"-{self.flavour}"
        return f"{self.data}-{attack}{flavour}-{self.injection}-s{self.seed}"

    @property
    def clean_twin(self) -> Cell:
        """The same fine-tune before the attack. A clean cell is its own twin."""
        return Cell(self.data, "none", "none", 0.0, self.injection, self.seed, self.flavour)


def matching(cells: list[Cell], pattern: str) -> list[Cell]:
    """Those whose id the glob matches."""
    return [cell for cell in cells if fnmatchcase(cell.id, pattern)]
