from __future__ import annotations

import pytest
import torch
from PIL import Image

from gpu_jobs.families.llada_v.family import LladaV
from gpu_jobs.families.llada_v.images import choose_grid, cut_views, pixel_values, placement
from tests.golden import image, index, tensors

CASES = range(9)
GRIDS = [(56 * across, 56 * down) for across in range(1, 7) for down in range(1, 7)]


@pytest.mark.parametrize("case", CASES)
class TestAgainstTheOfficialPreprocessing:
    def test_the_same_grid_is_chosen(self, case: int) -> None:
        across, down = index("vision/index.json")[case]["grid_wh"]
        assert choose_grid(image(case).size, GRIDS) == (56 * across, 56 * down)

    def test_pixel_values_are_exact(self, case: int) -> None:
        picture, golden = image(case), tensors(f"vision/image_{case}")
        pixels = pixel_values(cut_views(picture, choose_grid(picture.size, GRIDS), 56))
        assert len(pixels) == index("vision/index.json")[case]["views"]
        if "pixel_values" in golden:
            assert torch.equal(pixels, golden["pixel_values"])
        else:
            assert torch.equal(pixels[[0, -1]], golden["pixel_values_first_last"])
            torch.testing.assert_close(pixels.flatten(1).mean(dim=1), golden["pixel_values_view_mean"], rtol=0, atol=1e-6)
            torch.testing.assert_close(pixels.flatten(1).std(dim=1), golden["pixel_values_view_std"], rtol=0, atol=1e-6)


class TestPlacement:
    def test_a_wide_picture_is_centred_between_black_bars(self) -> None:
        assert placement((100, 50), (200, 200)) == (0, 50, 200, 100)

    def test_a_picture_never_leaves_its_canvas(self) -> None:
        for size in [(1, 1000), (1000, 1), (7, 13), (55, 57)]:
            canvas = choose_grid(size, GRIDS)
            left, top, width, height = placement(size, canvas)
            assert 0 <= left <= left + width <= canvas[0]
            assert 0 <= top <= top + height <= canvas[1]


class TestSee:
    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
    def test_any_colour_mode_is_seen(self, family: LladaV, mode: str) -> None:
        (seen,) = family.see([Image.new("RGB", (80, 40), "red").convert(mode)])
        assert seen.features.isfinite().all()

    def test_a_picture_of_one_pixel_row_is_seen(self, family: LladaV) -> None:
        (seen,) = family.see([Image.new("RGB", (2000, 1))])
        assert len(family.spans([seen])[0]) == len(seen.regions)

    def test_no_images_give_nothing(self, family: LladaV) -> None:
        assert family.see([]) == []
