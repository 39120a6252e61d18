from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from gpu_jobs.families.base import Region
from gpu_jobs.families.llada_v.family import LladaV
from gpu_jobs.families.llada_v.images import choose_grid
from gpu_jobs.families.llada_v.span import SpanPlan, plan_span
from tests.golden import ROUNDING, image, index, tensors

GRIDS = [(56 * across, 56 * down) for across in range(1, 7) for down in range(1, 7)]


def plan(width: int, height: int) -> SpanPlan:
    return plan_span((width, height), choose_grid((width, height), GRIDS), 56, 14, 4)


@pytest.mark.parametrize("case", range(9))
@torch.no_grad()
def test_tower_projector_and_span_are_the_official_ones(official: LladaV, family: LladaV, case: int) -> None:
    golden = tensors(f"vision/image_{case}")
    for model, tolerance in ((official, 1e-5), (family, 5e-5)):
        (seen,) = model.see([image(case)])
        projected = model.network.projector(seen.features)
        if "tower" in golden:
            torch.testing.assert_close(seen.features, golden["tower"], rtol=0, atol=min(tolerance, 3e-5) * ROUNDING)
            torch.testing.assert_close(projected, golden["projected"], rtol=0, atol=tolerance * ROUNDING)
        else:
            torch.testing.assert_close(projected[[0, -1]], golden["projected_first_last"], rtol=0, atol=tolerance * ROUNDING)
        (span,) = model.spans([seen])
        torch.testing.assert_close(span, golden["span"], rtol=0, atol=tolerance * ROUNDING)
        assert len(span) == len(seen.regions) == index("vision/index.json")[case]["span_tokens"]


class TestRegions:
    def test_the_base_view_tiles_the_whole_picture(self) -> None:
        assert plan(170, 120).regions[:16] == tuple(
            Region(x / 4, y / 4, (x + 1) / 4, (y + 1) / 4) for y, x in itertools.product(range(4), range(4))
        )

    def test_each_row_of_the_grid_ends_with_a_separator(self) -> None:
        spanned = plan(112, 56)
        assert [number for number, region in enumerate(spanned.regions) if region is None] == [24, 33, 42, 51]
        assert spanned.regions[16] == Region(0, 0, 1 / 8, 1 / 4)
        assert spanned.regions[50] == Region(7 / 8, 3 / 4, 1, 1)

    @pytest.mark.parametrize("size", [(56, 56), (170, 120), (230, 215), (37, 250), (300, 64), (2000, 3), (999, 1000)])
    def test_the_grid_covers_the_picture_without_gaps_but_for_less_than_a_token_at_the_edges(self, size: tuple[int, int]) -> None:
        spanned = plan(*size)
        grid = [region for region in spanned.regions[16:] if region]
        for low, high in (("left", "right"), ("top", "bottom")):
            intervals = sorted({(getattr(region, low), getattr(region, high)) for region in grid})
            extent = max(end - start for start, end in intervals)
            assert intervals[0][0] < extent
            assert intervals[-1][1] > 1 - extent
            assert all(before[1] >= after[0] - 1e-9 for before, after in itertools.pairwise(intervals))
            assert all(0 <= start < end <= 1 for start, end in intervals)

    @torch.no_grad()
    def test_a_change_of_the_picture_moves_most_the_tokens_whose_region_it_lies_in(self, family: LladaV) -> None:
        size, spot = (224, 168), (150, 40, 164, 54)
        plain = np.full((size[1], size[0], 3), 128, dtype=np.uint8)
        marked = plain.copy()
        marked[spot[1] : spot[3], spot[0] : spot[2]] = (255, 0, 0)
        before, after = family.see([Image.fromarray(plain), Image.fromarray(marked)])
        moved = (family.spans([after])[0] - family.spans([before])[0]).norm(dim=1)[16:]
        middle = ((spot[0] + spot[2]) / 2 / size[0], (spot[1] + spot[3]) / 2 / size[1])
        region = after.regions[16 + int(moved.argmax())]
        assert region is not None
        assert region.left <= middle[0] <= region.right
        assert region.top <= middle[1] <= region.bottom

    def test_pixels_between_two_views_tokens_belong_to_none(self) -> None:
        # As in the released model: views of 384 pixels whose 27 tokens of 14 pixels leave 6 pixels unseen.
        spanned = plan_span((768, 384), (768, 384), 384, 14, 4)
        row = spanned.regions[729 : 729 + 54]
        assert row[26] == Region(26 * 14 / 768, 0, 378 / 768, 14 / 384)
        assert row[27] == Region(384 / 768, 0, 398 / 768, 14 / 384)

    @pytest.mark.parametrize(("size", "tokens"), [((384, 384), 1485), ((224, 224), 1485), ((640, 480), 2929)])
    def test_the_released_model_sees_a_picture_as_so_many_tokens(self, size: tuple[int, int], tokens: int) -> None:
        grids = [(384 * across, 384 * down) for across in range(1, 7) for down in range(1, 7)]
        assert len(plan_span(size, choose_grid(size, grids), 384, 14, 4).regions) == tokens
