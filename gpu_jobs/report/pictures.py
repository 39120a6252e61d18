"""Pictures of a suspect: the image, and where in it the model's answer comes from."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from gpu_jobs.defense.records import SaliencyPicture, Window

_SHOWN_EDGE = 192  # pixels
_HIDDEN_COLOUR = (34, 211, 238)
_EXPLAINING_COLOUR = (244, 63, 94)


def load_picture(path: Path) -> Image.Image:
    """The image in RGB, its longer edge brought to the report's size; small images keep their pixels visible."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = _SHOWN_EDGE / max(image.size)
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), resampling)


def overlay_saliency(image: Image.Image, saliency: SaliencyPicture, number: int = 0) -> Image.Image:
    """Image `number` of the sample under a heat map of its vision tokens' scores.

    Hidden tokens are outlined in cyan, the window that explains the answer in red. Several tokens may look at one place
    (base view and tiles); the highest score shows.
    """
    heat = np.zeros((image.height, image.width))
    largest = max(saliency.scores, default=0.0) or 1.0
    tokens = [token for token in zip(saliency.regions, saliency.scores, saliency.hidden, strict=True) if token[0].image == number]
    for window, score, _ in tokens:
        left, top, right, bottom = _pixels(window, image)
        patch = heat[top:bottom, left:right]
        np.maximum(patch, score / largest, out=patch)
    colours = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    strength = (0.25 + 0.55 * heat)[..., None]
    result = Image.fromarray((np.asarray(image) * (1 - strength) + colours * strength).astype(np.uint8))
    draw = ImageDraw.Draw(result)
    for window, _, hidden in tokens:
        if hidden:
            _outline(draw, window, image, _HIDDEN_COLOUR)
    if saliency.explaining is not None and saliency.explaining.image == number:
        _outline(draw, saliency.explaining, image, _EXPLAINING_COLOUR)
    return result


def to_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def to_data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _outline(draw: ImageDraw.ImageDraw, window: Window, image: Image.Image, colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = _pixels(window, image)
    draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)


def _pixels(window: Window, image: Image.Image) -> tuple[int, int, int, int]:
    return (
        round(window.left * image.width),
        round(window.top * image.height),
        round(window.right * image.width),
        round(window.bottom * image.height),
    )
