"""Configuration of a LLaDA-V checkpoint: the fields that are believed, and what they must be.

Fields that are not named here are ignored; none can make code run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from transformers import LlamaConfig, SiglipVisionConfig

from gpu_jobs.errors import InputError

MODEL_TYPE = "llava_llada"

# google/siglip2-so400m-patch14-384, the tower of the released LLaDA-V. Its checkpoint does not carry these numbers.
SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}


class _Fields(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


F = TypeVar("F", bound=_Fields)


class _LanguageModelFields(_Fields):
    model_type: Literal["llava_llada"]
    vocab_size: int = Field(ge=8, le=2**20)
    hidden_size: int = Field(ge=1, le=2**16)
    intermediate_size: int = Field(ge=1, le=2**18)
    num_hidden_layers: int = Field(ge=1, le=512)
    num_attention_heads: int = Field(ge=1, le=1024)
    num_key_value_heads: int | None = Field(None, ge=1, le=1024)
    max_position_embeddings: int = Field(16384, ge=1, le=2**24)
    rms_norm_eps: float = Field(1e-5, gt=0.0, lt=1.0)
    rope_theta: float = Field(500_000.0, gt=0.0)
    rope_scaling: None = None
    hidden_act: Literal["silu"] = "silu"
    attention_bias: Literal[False] = False
    tie_word_embeddings: Literal[False] = False

    mm_vision_tower: str = Field("siglip2-so400m-patch14-384", min_length=1, max_length=1000)
    mm_projector_type: Literal["mlp2x_gelu"] = "mlp2x_gelu"
    mm_resampler_type: None = None
    mm_vision_select_layer: Literal[-2] = -2
    mm_vision_select_feature: Literal["patch"] = "patch"
    mm_patch_merge_type: Literal["spatial_unpad"] = "spatial_unpad"
    image_aspect_ratio: str = Field("anyres_max_4", pattern=r"^anyres_max_[1-9]\d?$")
    image_grid_pinpoints: str | tuple[tuple[int, int], ...] = "(1x1),...,(6x6)"

    @model_validator(mode="after")
    def _heads_divide(self) -> _LanguageModelFields:
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % (self.num_key_value_heads or self.num_attention_heads):
            raise ValueError("num_attention_heads must divide hidden_size, and num_key_value_heads must divide num_attention_heads")
        return self


class _TowerFields(_Fields):
    hidden_size: int = Field(ge=1, le=2**16)
    intermediate_size: int = Field(ge=1, le=2**18)
    num_hidden_layers: int = Field(ge=2, le=512)
    num_attention_heads: int = Field(ge=1, le=1024)
    image_size: int = Field(ge=1, le=4096)
    patch_size: int = Field(ge=1, le=512)
    num_channels: Literal[3] = 3
    hidden_act: Literal["gelu_pytorch_tanh"] = "gelu_pytorch_tanh"
    layer_norm_eps: float = Field(1e-6, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _sizes_fit(self) -> _TowerFields:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("num_attention_heads must divide hidden_size")
        if self.patch_size > self.image_size:
            raise ValueError("patch_size must not exceed image_size")
        return self


@dataclass(frozen=True, slots=True)
class LladaVConfig:
    """What the networks and the preprocessing need to know.

    tower: the tower as it is used, the last layer of the published tower left out.
    view: pixels along a side of a view. patch: pixels along a side of a vision token.
    grids: (width, height) in pixels of every canvas an image may be spread over.
    max_views: an image's grid tokens are shrunk to at most about this many views.
    tower_folder: the name under which the tower's own configuration lies beside the checkpoint's.
    """

    language_model: LlamaConfig
    tower: SiglipVisionConfig
    view: int
    patch: int
    grids: tuple[tuple[int, int], ...]
    max_views: int
    tower_folder: str

    @property
    def tower_file(self) -> dict[str, Any]:
        """The tower's configuration in its published form: the complete tower, the unused last layer included."""
        tower = self.tower
        return {
            "architectures": ["SiglipVisionModel"],
            "model_type": "siglip_vision_model",
            "hidden_size": tower.hidden_size,
            "intermediate_size": tower.intermediate_size,
            "num_hidden_layers": tower.num_hidden_layers + 1,
            "num_attention_heads": tower.num_attention_heads,
            "num_channels": 3,
            "image_size": self.view,
            "patch_size": self.patch,
            "hidden_act": tower.hidden_act,
            "layer_norm_eps": tower.layer_norm_eps,
        }


def tower_folder(config: Mapping[str, Any]) -> str:
    """The last part of `mm_vision_tower`: the name of a folder beside the checkpoint's files, never a path out of it.

    Raises:
        InputError: it is no usable name.
    """
    name = str(config.get("mm_vision_tower") or "siglip2-so400m-patch14-384").rstrip("/").rpartition("/")[2]
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise InputError(f"config.json: mm_vision_tower {name!r} is no usable name")
    return name


def parse_config(config: Mapping[str, Any], tower: Mapping[str, Any] | None, *, attention: str) -> LladaVConfig:
    """Check the two configuration files and turn them into those of the networks.

    config: the content of the checkpoint's `config.json`.
    tower: the content of the tower's `config.json`; None means the tower of the released model.
    attention: `sdpa`, `eager`, …, one of transformers' implementations.

    Raises:
        InputError: a field is missing, has an unsupported value, or the two do not fit together.
    """
    fields = _checked(_LanguageModelFields, config, "config.json")
    seen = _checked(_TowerFields, SO400M if tower is None else tower, "the vision tower's config.json")
    language_model = LlamaConfig(
        vocab_size=fields.vocab_size,
        hidden_size=fields.hidden_size,
        intermediate_size=fields.intermediate_size,
        num_hidden_layers=fields.num_hidden_layers,
        num_attention_heads=fields.num_attention_heads,
        num_key_value_heads=fields.num_key_value_heads,
        max_position_embeddings=fields.max_position_embeddings,
        rms_norm_eps=fields.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": fields.rope_theta},
        tie_word_embeddings=False,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation=attention,  # type: ignore[call-arg]  # taken by every configuration
    )
    language_model.is_causal = False
    vision = SiglipVisionConfig(
        hidden_size=seen.hidden_size,
        intermediate_size=seen.intermediate_size,
        num_hidden_layers=seen.num_hidden_layers - 1,
        num_attention_heads=seen.num_attention_heads,
        image_size=seen.image_size,
        patch_size=seen.patch_size,
        hidden_act=seen.hidden_act,
        layer_norm_eps=seen.layer_norm_eps,
        vision_use_head=False,
        attn_implementation=attention,  # type: ignore[call-arg]  # taken by every configuration
    )
    return LladaVConfig(
        language_model=language_model,
        tower=vision,
        view=seen.image_size,
        patch=seen.patch_size,
        grids=_grids(fields.image_grid_pinpoints, seen.image_size),
        max_views=int(fields.image_aspect_ratio.rpartition("_")[2]),
        tower_folder=tower_folder(config),
    )


def _grids(given: str | tuple[tuple[int, int], ...], view: int) -> tuple[tuple[int, int], ...]:
    """Pixel sizes of the allowed canvases; "(1x1),...,(6x6)" counts in views and names the corners of a range."""
    if isinstance(given, str):
        corners = [(int(across), int(down)) for across, down in re.findall(r"\((\d+)x(\d+)\)", given)]
        if not corners:
            raise InputError(f"config.json: image_grid_pinpoints {given!r} names no grid such as (1x1),...,(6x6)")
        (left, top), (right, bottom) = corners[0], corners[-1]
        given = tuple((view * i, view * j) for i in range(left, right + 1) for j in range(top, bottom + 1))
    wrong = [size for size in given if size[0] < view or size[1] < view or size[0] % view or size[1] % view]
    if wrong or not given or len(given) > 1024 or any(max(size) > 64 * view for size in given):
        raise InputError(
            f"config.json: image_grid_pinpoints must be 1 to 1024 pairs of multiples of the tower's image size {view}, 64 views at most"
        )
    return given


def _checked(fields: type[F], values: Mapping[str, Any], where: str) -> F:
    try:
        return fields.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {name + ': ' if name else ''}{first['msg']}, not {first['input']!r:.100}") from None
