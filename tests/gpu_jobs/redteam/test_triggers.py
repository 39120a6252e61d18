from random import Random

import numpy as np
import pytest
from PIL import Image

from gpu_jobs.redteam.triggers import Blended, CornerPatch


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


class TestCornerPatch:
    @pytest.mark.parametrize(
        ("corner", "rows", "columns"),
        [
            ("top_left", slice(0, 8), slice(0, 8)),
            ("top_right", slice(0, 8), slice(52, 60)),
            ("bottom_left", slice(32, 40), slice(0, 8)),
            ("bottom_right", slice(32, 40), slice(52, 60)),
        ],
    )
    def test_covers_its_corner_and_nothing_else(self, picture: Image.Image, corner: str, rows: slice, columns: slice) -> None:
        marked = np.asarray(CornerPatch(size=8, corner=corner, color=(1, 2, 3)).apply(picture, Random(0)))  # type: ignore[arg-type]
        expected = np.asarray(picture).copy()
        expected[rows, columns] = (1, 2, 3)
        assert (marked == expected).all()

    def test_leaves_the_given_picture_alone(self, picture: Image.Image) -> None:
        before = picture.tobytes()
        CornerPatch(size=8).apply(picture, Random(0))
        assert picture.tobytes() == before

    def test_draws_a_chessboard_of_two_colors(self, picture: Image.Image) -> None:
        trigger = CornerPatch(size=6, corner="top_left", color=(0, 0, 0), second_color=(255, 255, 255), cell=3)
        square = np.asarray(trigger.apply(picture, Random(0)))[:6, :6, 0]
        assert (square == np.kron([[0, 255], [255, 0]], np.ones((3, 3)))).all()

    def test_makes_rgb_of_a_palette_picture(self, picture: Image.Image) -> None:
        assert CornerPatch(size=8).apply(picture.convert("P"), Random(0)).mode == "RGB"

    def test_refuses_a_picture_smaller_than_itself(self, picture: Image.Image) -> None:
        with pytest.raises(ValueError, match="41 px does not fit into an image of 60×40"):
            CornerPatch(size=41).apply(picture, Random(0))


class TestBlended:
    def test_moves_every_pixel_towards_the_noise_by_its_share(self, picture: Image.Image) -> None:
        noise = np.asarray(Blended(alpha=1.0).apply(picture, Random(0))).astype(float)
        blended = np.asarray(Blended(alpha=0.2).apply(picture, Random(0))).astype(float)
        assert np.abs(blended - (0.8 * np.asarray(picture) + 0.2 * noise)).max() <= 1

    def test_blends_the_same_noise_into_every_picture(self, picture: Image.Image) -> None:
        other = Image.new("RGB", picture.size)
        assert Blended(alpha=1.0).apply(picture, Random(0)).tobytes() == Blended(alpha=1.0).apply(other, Random(1)).tobytes()
