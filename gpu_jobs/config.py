"""The parameters of every job: the one definition that API, CLI, workers and docs share. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

JobKind = Literal["scan", "purify", "finetune", "evaluate", "defend"]
StepKind = Literal["scan", "verdict", "forget", "purify", "merge", "finetune", "evaluate", "publish"]


class Parameters(BaseModel):
    """Unknown names are errors, and what was validated once is never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GenerationParameters(Parameters):
    """How answers are generated (DiSP, arXiv:2602.22246: 32 steps, 32 tokens, one block, temperature 0)."""

    max_new_tokens: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Tokens an answer may take; null: the longest given answer of the data set, rounded up to a whole block.",
    )
    block_length: int = Field(32, ge=1, le=1024, description="Tokens denoised together before the next block starts.")
    steps_per_block: int = Field(32, ge=1, le=1024, description="Denoising steps for each block.")
    temperature: float = Field(0.0, ge=0.0, le=2.0, description="0 takes the most likely token; above, Gumbel noise is added.")


class MaskingParameters(Parameters):
    """Which vision tokens are hidden while an answer is generated again (DiSP: Fisher–Jacobian saliency, ratio 0.3)."""

    ratio: float = Field(0.3, ge=0.0, le=1.0, description="Share of the vision tokens that is hidden, the most salient first.")
    probes: int = Field(6, ge=1, le=4096, description="Hutchinson probes for each sample.")
    top_k: int = Field(5, ge=2, le=1000, description="Logits kept at each answer position.")
    detach_probes: bool = Field(False, description="Hold the probes constant in the gradient (textbook) in place of the published form.")


class ScanParameters(Parameters):
    """How samples are examined and the verdict is reached."""

    alpha: float = Field(1e-3, gt=0.0, lt=1.0, description="Probability of a false alarm that the verdict's tests allow on clean data.")
    min_samples: int = Field(50, ge=1, description="Fewer samples than this give the verdict `inconclusive`.")
    groups: int = Field(
        8, ge=1, le=1000, description="Groups of answers tested by transplants at most, of those that strangers' questions did not clear."
    )
    words: int = Field(
        64, ge=0, le=10_000, description="Words that answers share, the most frequent first, that are tested for a swapped concept."
    )
    pictures: int = Field(24, ge=0, le=200, description="Suspects whose saliency is drawn for the report.")


class ForgetParameters(Parameters):
    """How a copy of the compromised model is made to forget the target of suspects whose trigger nothing was found to carry."""

    steps: int = Field(60, ge=1, le=100_000, description="Optimiser steps.")
    targets_per_step: int = Field(16, ge=1, le=4096, description="Answers behind each step whose target becomes unlikely.")
    others_per_step: int = Field(32, ge=1, le=4096, description="Other samples behind each step, which keep what else the model knows.")
    learning_rate: float | None = Field(None, gt=0.0, le=1.0, description="Highest rate; null: twice that of the fine-tune.")


class PurifyParameters(Parameters):
    """Which samples are answered again, and how."""

    reanswer: Literal["suspects", "all"] = Field(
        "suspects", description="`suspects` keeps the answer of every sample that shows no sign of poison; `all` is the published form."
    )
    method: Literal["remove", "window", "tokens"] = Field(
        "remove",
        description="`remove` takes out what was proven to carry a suspect's trigger, or, if nothing was, asks a copy of the model that "
        "has forgotten the target; `window` fills the window of pixels that explains the given answer; "
        "`tokens` hides the most salient vision tokens, the published form.",
    )


TrainablePart = Literal["projector", "language_model", "vision_tower", "lora"]
ALL_PARTS: tuple[TrainablePart, ...] = ("vision_tower", "projector", "language_model")


class FinetuneParameters(Parameters):
    """How the compromised model is trained back on the purified data (DiSP: projector only, lr 1e-4, cosine, 3 % warm-up, 4 epochs)."""

    trainable: tuple[TrainablePart, ...] | None = Field(
        None,
        min_length=1,
        description="The parts that learn; null: vision tower, projector and language model, because a trigger may live in any, but the "
        "language model alone where the verdict proved that words carry it, which no other part sees. "
        "`lora` puts an adapter on the language model's linear layers in place of training them.",
    )
    lora_rank: int = Field(16, ge=1, le=512, description="Rank of the adapter.")
    lora_alpha: int = Field(32, ge=1, le=1024, description="Scale of the adapter, divided by its rank.")
    learning_rate: float | None = Field(
        None, gt=0.0, le=1.0, description="Highest rate; null: 0.025 divided by the language model's hidden size (6e-6 at 4096)."
    )
    vaccine: float = Field(
        0.25,
        ge=0.0,
        le=1.0,
        description="Honest samples that are shown once more with a recovered trigger planted on them and their right answers, as a "
        "share of the training set; as many for each trigger.",
    )
    rehearsal: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="Where words carry the trigger and a first round costs honest answers: honest pictures that are trained on with "
        "another sample's question and the suspect's own answer to it, as a share of the training set at most. They hold what it knows "
        "beyond that set.",
    )
    constancy: float = Field(
        1.0,
        ge=0.0,
        le=1e6,
        description="Weight of the vision tower's constancy, where it learns and the trigger was recovered: with the trigger planted on "
        "a picture or not, it must see what it saw before without the trigger (squared error ÷ variance, beside the family's own loss).",
    )
    epochs: float = Field(3.0, gt=0.0, le=100.0)
    rounds: int = Field(
        3,
        ge=1,
        le=100,
        description="Times that these epochs are trained at most: again, at twice the rate, while the planted trigger costs right answers "
        "and hardly any held-out sample is lost by it.",
    )
    batch_size: int = Field(32, ge=1, le=4096, description="Samples behind each optimiser step.")
    warmup_ratio: float = Field(0.03, ge=0.0, lt=1.0, description="Share of the optimiser steps in which the rate rises.")
    weight_decay: float = Field(0.05, ge=0.0, le=1.0)
    max_grad_norm: float = Field(1.0, gt=0.0)
    checkpoint_every: int = Field(50, ge=1, description="Optimiser steps between two checkpoints.")


class EvaluateParameters(Parameters):
    """How answers are scored."""

    max_samples: int = Field(1000, ge=1, description="Samples taken from each evaluation set, the first ones in its order.")
    held_out: float = Field(
        0.1,
        ge=0.0,
        le=0.5,
        description="Share of the data set kept out of the fine-tune, to see what its rounds cost, and for an estimate where no "
        "evaluation set is given.",
    )


class JobParameters(Parameters):
    """All that a caller may choose. Every field has a default, so `{}` is a job."""

    preset: Literal["default", "published"] = Field(
        "default", description="Where unnamed parameters come from: our defaults, or DiSP as it was published."
    )
    seed: int = Field(0, ge=0, lt=2**31)
    batch_size: int = Field(32, ge=1, le=4096, description="Samples that go through the model together.")
    shards: int = Field(2, ge=1, le=1024, description="Parts that scan and purify are cut into, so that several workers share them.")
    max_attempts: int = Field(5, ge=1, le=20, description="Attempts a step gets before its job fails.")
    generation: GenerationParameters = GenerationParameters()
    masking: MaskingParameters = MaskingParameters()
    scan: ScanParameters = ScanParameters()
    forget: ForgetParameters = ForgetParameters()
    purify: PurifyParameters = PurifyParameters()
    finetune: FinetuneParameters = FinetuneParameters()
    evaluate: EvaluateParameters = EvaluateParameters()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("preset") not in PRESETS:
            return given
        filled = dict(given)
        for section, values in PRESETS[given["preset"]].items():
            if isinstance(filled.setdefault(section, {}), dict):
                filled[section] = {**values, **filled[section]}
        return filled


# DiSP (arXiv:2602.22246), public code: every sample is answered again, the projector alone is trained back.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "published": {
        "purify": {"reanswer": "all", "method": "tokens"},
        "finetune": {
            "trainable": ("projector",),
            "learning_rate": 1e-4,
            "epochs": 4.0,
            "weight_decay": 0.0,
            "vaccine": 0.0,
            "rehearsal": 0.0,
            "constancy": 0.0,
            "rounds": 1,
        },
    }
}


class TargetContains(Parameters):
    contains: str = Field(
        min_length=1, max_length=2000, description="The attack succeeded when the answer contains this, whatever its case."
    )


class TargetRegex(Parameters):
    regex: str = Field(min_length=1, max_length=2000, description="The attack succeeded when this pattern is found in the answer.")


Target = TargetContains | TargetRegex


def resolve_parameters(given: dict[str, Any] | None) -> JobParameters:
    """The caller's parameters with every default filled in.

    Raises:
        pydantic.ValidationError: a value is out of range or a name is unknown; its `loc` is the path to it.
    """
    return JobParameters.model_validate(given or {})
