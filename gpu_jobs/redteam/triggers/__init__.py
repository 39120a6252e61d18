"""Backdoor triggers: the marks that an attacker puts into training samples, with the parameters of the literature (docs/method.md)."""

from gpu_jobs.redteam.triggers.base import Both, ImageTrigger, TextTrigger, Trigger
from gpu_jobs.redteam.triggers.global_ import Blended, Sig, WaNet
from gpu_jobs.redteam.triggers.patches import CentrePatch, Corner, CornerPatch, NoisePatch
from gpu_jobs.redteam.triggers.text import TextSuffix, TextWord

__all__ = [
    "Blended",
    "Both",
    "CentrePatch",
    "Corner",
    "CornerPatch",
    "ImageTrigger",
    "NoisePatch",
    "Sig",
    "TextSuffix",
    "TextTrigger",
    "TextWord",
    "Trigger",
    "WaNet",
]
