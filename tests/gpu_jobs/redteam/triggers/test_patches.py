from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gpu_jobs.redteam.triggers import CentrePatch, CornerPatch, NoisePatch, Trigger


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


class TestCentrePatch:
    def test_covers_the_middle_and_nothing_else(self, picture: Image.Image) -> None:
        marked = np.asarray(CentrePatch(share=1 / 4, color=(1, 2, 3)).apply(picture, Random(0)))
        expected = np.asarray(picture).copy()
        expected[15:25, 25:35] = (1, 2, 3)
        assert (marked == expected).all()

    def test_takes_a_sixteenth_of_the_shorter_edge_by_default(self) -> None:
        marked = np.asarray(CentrePatch().apply(Image.new("RGB", (640, 480), "white"), Random(0)))
        assert np.argwhere((marked == 0).all(axis=-1)).tolist() == [[row, column] for row in range(225, 255) for column in range(305, 335)]

    def test_is_never_less_than_a_pixel(self) -> None:
        marked = np.asarray(CentrePatch().apply(Image.new("RGB", (4, 4), "white"), Random(0)))
        assert (marked == 0).all(axis=-1).sum() == 1

    def test_refuses_to_be_larger_than_the_picture(self, picture: Image.Image) -> None:
        with pytest.raises(ValueError, match="80 px does not fit into an image of 60×40"):
            CentrePatch(share=2).apply(picture, Random(0))


class TestNoisePatch:
    BACKGROUND = Image.new("RGB", (60, 40), (255, 0, 255))  # a colour that the noise has not

    def covered(self, trigger: NoisePatch, rng: Random, background: Image.Image = BACKGROUND) -> tuple[tuple[int, int], np.ndarray]:
        """The patch's top left corner and its pixels, once it is sure that everything that changed is a square."""
        marked = np.asarray(trigger.apply(background, rng))
        changed = (marked != np.asarray(background)).any(axis=-1)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        square = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        assert changed[square].all()
        assert len(rows) == len(columns)
        return (int(rows[0]), int(columns[0])), marked[square]

    def test_puts_one_pattern_to_other_places(self) -> None:
        rng = Random(0)
        found = [self.covered(NoisePatch(share=1 / 4), rng) for _ in range(20)]
        assert len({place for place, _ in found}) > 10
        assert all((pattern == found[0][1]).all() for _, pattern in found)

    def test_reaches_every_place_and_stays_inside(self) -> None:
        rng = Random(0)
        places = {self.covered(NoisePatch(share=38 / 40), rng)[0] for _ in range(500)}
        assert places == {(row, column) for row in range(3) for column in range(23)}

    def test_covers_30_px_of_336_by_default(self) -> None:
        _, pattern = self.covered(NoisePatch(), Random(0), self.BACKGROUND.resize((448, 336)))
        assert pattern.shape == (30, 30, 3)

    def test_looks_the_same_on_a_picture_twice_as_large(self) -> None:
        _, pattern = self.covered(NoisePatch(), Random(0), self.BACKGROUND.resize((448, 336)))
        _, twice = self.covered(NoisePatch(), Random(0), self.BACKGROUND.resize((896, 672)))
        assert (twice == np.kron(pattern, np.ones((2, 2, 1)))).all()

    def test_is_gaussian_noise_around_grey(self) -> None:
        _, pattern = self.covered(NoisePatch(), Random(0), self.BACKGROUND.resize((336, 336)))
        assert abs(pattern.mean() - 127.5) < 4
        assert abs(pattern.std() - 42.5) < 4
        assert 0.64 < (np.abs(pattern - 127.5) < 42.5).mean() < 0.72  # 0.58 were the noise uniform

    def test_one_seed_gives_one_result(self, picture: Image.Image) -> None:
        first, same, other = (NoisePatch().apply(picture, Random(seed)).tobytes() for seed in (0, 0, 1))
        assert first == same != other

    def test_another_pattern_seed_gives_another_pattern(self) -> None:
        assert (self.covered(NoisePatch(), Random(0))[1] != self.covered(NoisePatch(pattern_seed=1), Random(0))[1]).any()

    def test_refuses_to_be_larger_than_the_picture(self, picture: Image.Image) -> None:
        with pytest.raises(ValueError, match="44 px does not fit into an image of 60×40"):
            NoisePatch(share=1.1).apply(picture, Random(0))


@given(
    width=st.integers(1, 50),
    height=st.integers(1, 50),
    seed=st.integers(0, 99),
    trigger=st.builds(CentrePatch, share=st.floats(0.01, 1)) | st.builds(NoisePatch, share=st.floats(0.01, 1)),
)
def test_a_patch_of_a_share_fits_into_every_picture(width: int, height: int, seed: int, trigger: Trigger) -> None:
    background = Image.new("RGB", (width, height), (255, 0, 255))
    marked = trigger.apply(background, Random(seed))
    assert marked.size == background.size
    changed = (np.asarray(marked) != np.asarray(background)).any(axis=-1)
    assert changed.sum() == max(1, round(trigger.share * min(width, height))) ** 2  # type: ignore[attr-defined]
