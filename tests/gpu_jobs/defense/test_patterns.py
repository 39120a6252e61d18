"""What a group's pictures share, found on pictures that attackers' triggers were put on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_jobs.defense.patterns import LARGEST, Pattern, find_pattern
from gpu_jobs.redteam.triggers import Blended, CentrePatch, CornerPatch, ImageTrigger, Sig
from tests.gpu_jobs.defense.scenes import distance, scene, scenes, triggered

PATCH = CornerPatch(size=8, color=(255, 0, 0), second_color=(0, 255, 0), cell=2, corner="bottom_right")
BLEND = Blended(alpha=0.2)
# Pictures that no pattern was made of.
FRESH = scenes(5000, 20)


def found(trigger: ImageTrigger, count: int = 60) -> Pattern:
    return find_pattern(triggered(trigger, scenes(0, count)), scenes(1000, 2 * count))


@pytest.fixture(scope="module")
def patch() -> Pattern:
    return found(PATCH)


@pytest.fixture(scope="module")
def blend() -> Pattern:
    return found(BLEND)


class TestReplaced:
    def test_a_corner_patch_is_found_to_the_pixel(self, patch: Pattern) -> None:
        expected = np.zeros((48, 48), dtype=bool)
        expected[40:, 40:] = True
        assert np.array_equal(patch.replaced, expected)
        assert patch.share_replaced == pytest.approx(64 / 48**2)

    def test_it_is_put_onto_others_as_the_attacker_does(self, patch: Pattern) -> None:
        for picture, attacked in zip(FRESH, triggered(PATCH, FRESH), strict=True):
            assert np.array_equal(np.asarray(patch.local.add(picture)), np.asarray(attacked))

    def test_a_patch_in_the_middle_is_found_too(self) -> None:
        centre = found(CentrePatch(share=1 / 6)).replaced
        assert centre[20:28, 20:28].all()
        assert centre.sum() == 64

    def test_what_was_covered_is_filled_with_the_colour_of_the_border(self, patch: Pattern) -> None:
        plain = Image.new("RGB", (48, 48), (90, 120, 150))
        assert patch.local.subtract(patch.local.add(plain)).getcolors() == [(48 * 48, (90, 120, 150))]

    def test_a_frame_has_no_border_left_to_be_filled_with_but_the_rest_of_the_picture(self) -> None:
        covered = np.ones((48, 48), dtype=bool)
        covered[4:-4, 4:-4] = False
        frame = Pattern(np.zeros((48, 48, 3), np.float32), covered, np.zeros((48, 48, 3), np.float32))
        plain = Image.new("RGB", (48, 48), (90, 120, 150))
        assert frame.subtract(frame.add(plain)).getcolors() == [(48 * 48, (90, 120, 150))]


class TestAdded:
    @pytest.mark.parametrize("trigger", [BLEND, Sig()])
    def test_what_lies_over_the_whole_picture_covers_nothing(self, trigger: ImageTrigger) -> None:
        pattern = found(trigger)
        assert not pattern.replaced.any()
        assert np.abs(pattern.difference).mean() > 10

    def test_it_is_the_attackers_noise(self, blend: Pattern) -> None:
        black = np.asarray(triggered(BLEND, [Image.new("RGB", (48, 48))])[0], dtype=np.float64)
        assert np.corrcoef(blend.difference.ravel(), black.ravel())[0, 1] > 0.95

    def test_subtracting_undoes_adding(self, blend: Pattern) -> None:
        for picture in FRESH:
            marked = blend.add(picture)
            assert distance(marked, picture) > 10
            assert distance(blend.subtract(marked), picture) < 2

    def test_subtracting_leaves_nothing_to_match_in_an_attacked_picture(self, blend: Pattern) -> None:
        cleaned = [blend.subtract(picture) for picture in triggered(BLEND, FRESH)]
        assert np.abs(blend.match(cleaned)).max() < 0.2


class TestMatch:
    @pytest.mark.parametrize(("kind", "trigger"), [("patch", PATCH), ("blend", BLEND)])
    def test_it_is_about_one_with_the_trigger_and_far_below_without(
        self, kind: str, trigger: ImageTrigger, request: pytest.FixtureRequest
    ) -> None:
        pattern: Pattern = request.getfixturevalue(kind)
        shown, plain = pattern.match(triggered(trigger, FRESH)), pattern.match(FRESH)
        assert shown.shape == (len(FRESH),)
        assert shown == pytest.approx(1.0, abs=0.1)
        assert plain.max() < 0.5

    def test_an_empty_pattern_is_in_no_picture(self) -> None:
        nothing = Pattern(np.zeros((48, 48, 3), np.float32), np.zeros((48, 48), bool), np.zeros((48, 48, 3), np.float32))
        assert not nothing.match(FRESH).any()


class TestNoTrigger:
    def test_pictures_without_a_trigger_share_nothing(self) -> None:
        pattern = find_pattern(scenes(0, 200), scenes(1000, 200))
        assert not pattern.replaced.any()
        assert np.abs(pattern.difference).mean() < 3

    def test_what_others_have_too_is_no_pattern(self) -> None:
        pattern = find_pattern(triggered(PATCH, scenes(0, 60)), triggered(PATCH, scenes(1000, 60)))
        assert not pattern.replaced.any()
        assert not pattern.difference[44:, 44:].any()


class TestParts:
    def test_local_and_added_are_the_halves_of_a_pattern(self, patch: Pattern) -> None:
        assert np.array_equal(patch.local.replaced, patch.replaced)
        assert not patch.local.difference.any()
        assert np.array_equal(patch.added.difference, patch.difference)
        assert not patch.added.replaced.any()


class TestSizes:
    def test_a_larger_picture_gets_a_larger_patch(self, patch: Pattern) -> None:
        white = Image.new("RGB", (96, 144), (255, 255, 255))
        marked = np.asarray(patch.local.add(white))
        assert (marked[:120, :] == 255).all()
        assert (marked[:, :80] == 255).all()
        assert (marked[120:, 80:] != 255).any(axis=-1).all()

    def test_adding_and_subtracting_agree_at_another_size(self, blend: Pattern) -> None:
        picture = scene(7000, (90, 60))
        marked = blend.add(picture)
        assert marked.size == (90, 60)
        assert distance(marked, picture) > 5
        assert distance(blend.subtract(marked), picture) < 2

    def test_a_picture_of_another_size_is_matched(self, patch: Pattern) -> None:
        large = scene(7000, (96, 96))
        with_patch, without = patch.local.match([patch.local.add(large), large])
        assert with_patch == pytest.approx(1.0, abs=0.02)
        assert without < 0.5

    def test_pictures_of_several_sizes_are_brought_to_the_most_common_one(self) -> None:
        group = triggered(CornerPatch(size=8), scenes(0, 40)) + triggered(CornerPatch(size=16), scenes(40, 15, (96, 96)))
        pattern = find_pattern(group, [*scenes(1000, 60), *scenes(1060, 20, (64, 32))])
        assert pattern.replaced.shape == (48, 48)
        assert pattern.replaced[:7, :7].all()
        assert not pattern.replaced[9:].any()

    def test_large_photographs_are_looked_at_in_small(self) -> None:
        group = triggered(CornerPatch(size=100), scenes(0, 6, (800, 400)))
        pattern = find_pattern(group, scenes(1000, 6, (800, 400)))
        assert pattern.replaced.shape == (LARGEST // 2, LARGEST)
        assert pattern.replaced[:46, :46].all()
        assert pattern.local.add(scene(7000, (800, 400))).size == (800, 400)


@pytest.mark.parametrize("kind", ["patch", "blend"])
def test_a_pattern_is_the_same_after_it_was_saved(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pattern: Pattern = request.getfixturevalue(kind)
    pattern.save(tmp_path)
    again = Pattern.load(tmp_path)
    for name in ("difference", "replaced", "value"):
        assert np.array_equal(getattr(again, name), getattr(pattern, name))
        assert getattr(again, name).dtype == getattr(pattern, name).dtype


def test_it_is_drawn_as_it_looks_where_it_covers_and_grey_where_nothing_happens(patch: Pattern) -> None:
    drawn = np.asarray(patch.local.draw())
    assert (drawn[:40, :40] == 128).all()
    assert {tuple(color) for color in drawn[40:, 40:].reshape(-1, 3).tolist()} == {(255, 0, 0), (0, 255, 0)}
