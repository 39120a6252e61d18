"""Hiding, cutting and pasting windows of a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gpu_jobs.defense.records import Window
from gpu_jobs.defense.windows import coarse_windows, crop, hide, paste, shifted_windows


def picture() -> Image.Image:
    """Grey with a black square in the bottom right quarter of 64 × 48 pixels."""
    image = Image.new("RGB", (64, 48), (200, 200, 200))
    image.paste((0, 0, 0), (48, 36, 64, 48))
    return image


def test_the_grid_covers_the_picture_once() -> None:
    covered = np.zeros((48, 64), dtype=int)
    for window in coarse_windows(0):
        covered[round(window.top * 48) : round(window.bottom * 48), round(window.left * 64) : round(window.right * 64)] += 1
    assert (covered == 1).all()


def test_shifted_windows_stay_inside() -> None:
    corner, middle = Window(0, 0.0, 0.0, 0.25, 0.25), Window(0, 0.5, 0.5, 0.75, 0.75)
    assert len(shifted_windows(corner)) == 3
    assert len(shifted_windows(middle)) == 8


def test_a_hidden_window_takes_the_colour_of_the_border() -> None:
    hidden = hide(picture(), Window(0, 0.75, 0.75, 1.0, 1.0))
    assert hidden.getcolors() == [(64 * 48, (200, 200, 200))]


def test_a_piece_is_pasted_where_it_was_cut_whatever_the_size() -> None:
    window = Window(0, 0.75, 0.75, 1.0, 1.0)
    pasted = paste(Image.new("RGB", (128, 128), (255, 255, 255)), crop(picture(), window), window)
    pixels = np.asarray(pasted)
    assert (pixels[96:, 96:] == 0).all()
    assert (pixels[:96] == 255).all()


def test_a_window_of_a_tiny_picture_has_at_least_one_pixel() -> None:
    assert crop(Image.new("RGB", (2, 2)), Window(0, 0.75, 0.75, 1.0, 1.0)).size == (1, 1)
