from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import grid_sample

from gpu_jobs.redteam.triggers import Blended, ImageTrigger, Sig, WaNet


@pytest.fixture
def picture() -> Image.Image:
    # Not from seed 0, which would draw the very noise that is blended.
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


class TestBlended:
    def test_moves_every_pixel_towards_the_noise_by_its_share(self, picture: Image.Image) -> None:
        noise = np.asarray(Blended(alpha=1.0).apply(picture, Random(0))).astype(float)
        blended = np.asarray(Blended(alpha=0.2).apply(picture, Random(0))).astype(float)
        assert np.abs(blended - (0.8 * np.asarray(picture) + 0.2 * noise)).max() <= 1

    def test_blends_the_same_noise_into_every_picture(self, picture: Image.Image) -> None:
        other = Image.new("RGB", picture.size)
        assert Blended(alpha=1.0).apply(picture, Random(0)).tobytes() == Blended(alpha=1.0).apply(other, Random(1)).tobytes()

    def test_another_pattern_seed_gives_another_noise(self, picture: Image.Image) -> None:
        assert Blended().apply(picture, Random(0)).tobytes() != Blended(pattern_seed=1).apply(picture, Random(0)).tobytes()


class TestSig:
    def test_adds_six_periods_of_forty_levels_along_the_width(self) -> None:
        grey = Image.new("RGB", (60, 40), (128, 128, 128))
        stripes = pixels(Sig().apply(grey, Random(0))) - 128
        assert (stripes == stripes[:1, :, :1]).all()
        wave = stripes[0, :, 0]
        assert np.abs(wave - 40 * np.sin(2 * np.pi * 6 * np.arange(60) / 60)).max() <= 0.5
        assert np.abs(np.fft.rfft(wave)).argmax() == 6

    def test_honours_amplitude_and_frequency(self) -> None:
        grey = Image.new("RGB", (100, 40), (128, 128, 128))
        wave = pixels(Sig(delta=20, frequency=5).apply(grey, Random(0)))[0, :, 0] - 128
        assert (wave.min(), wave.max()) == (-20, 20)
        assert np.abs(np.fft.rfft(wave)).argmax() == 5

    def test_stops_at_black_and_white(self) -> None:
        assert pixels(Sig().apply(Image.new("RGB", (60, 40), "white"), Random(0))).max() == 255
        assert pixels(Sig().apply(Image.new("RGB", (60, 40), "black"), Random(0))).min() == 0
        # Had a value run over, white would have turned dark somewhere.
        assert pixels(Sig().apply(Image.new("RGB", (60, 40), "white"), Random(0))).min() >= 255 - 40


class TestWaNet:
    def test_takes_pixels_from_where_the_official_way_of_sampling_does(self, picture: Image.Image) -> None:
        trigger = WaNet(strength=6)
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 60), indexing="ij")
        field = torch.from_numpy(trigger._field(40, 60)).float()
        grid = torch.stack([columns + 6 * field[1] / 60, rows + 6 * field[0] / 40], dim=-1).clamp(-1, 1)
        channels = torch.from_numpy(pixels(picture)).float().permute(2, 0, 1)
        expected = grid_sample(channels[None], grid[None], align_corners=True)[0].permute(1, 2, 0)
        assert np.abs(pixels(trigger.apply(picture, Random(0))) - expected.numpy()).max() < 0.51

    def test_bends_by_the_mean_that_its_strength_says(self) -> None:
        control = np.abs(WaNet()._field(4, 4))
        assert control.mean() == pytest.approx(1)
        assert control.max() <= 2.5  # uniform values have a mean of about half their largest

    def test_bends_smoothly(self) -> None:
        assert np.abs(np.diff(WaNet()._field(64, 64), axis=-1)).max() < 0.3
        assert np.abs(np.diff(WaNet(control_points=16)._field(64, 64), axis=-1)).max() > 0.5

    def test_does_nothing_at_strength_zero(self, picture: Image.Image) -> None:
        assert WaNet(strength=0).apply(picture, Random(0)).tobytes() == picture.tobytes()

    def test_changes_more_the_stronger_it_is(self) -> None:
        ramp = Image.fromarray(np.tile(np.arange(60, dtype=np.uint8)[None, :, None] * 4, (40, 1, 3)))
        changes = [np.abs(pixels(WaNet(strength=strength).apply(ramp, Random(0))) - pixels(ramp)).mean() for strength in (0.5, 2, 6)]
        assert changes[0] > 0
        assert changes[1] > 2 * changes[0]
        assert changes[2] > 2 * changes[1]

    @pytest.mark.parametrize("side", [32, 64, 336])
    def test_shifts_by_a_fifth_of_a_pixel_at_every_size(self, side: int) -> None:
        trigger = WaNet()
        shifts = trigger._places(side, side) - np.stack(np.meshgrid(range(side), range(side), indexing="ij"))
        assert 0.15 < np.abs(shifts).mean() < 0.25

    def test_invents_no_brightness(self) -> None:
        flat = Image.new("RGB", (60, 40), (7, 99, 200))
        assert WaNet(strength=50).apply(flat, Random(0)).tobytes() == flat.tobytes()

    def test_another_field_seed_bends_another_way(self, picture: Image.Image) -> None:
        assert WaNet().apply(picture, Random(0)).tobytes() != WaNet(field_seed=1).apply(picture, Random(0)).tobytes()


@pytest.mark.parametrize("trigger", [Blended(), Sig(), WaNet()])
class TestEveryGlobalTrigger:
    def test_leaves_no_part_of_the_picture_as_it_was(self, trigger: ImageTrigger, picture: Image.Image) -> None:
        changed = (pixels(trigger.apply(picture, Random(0))) != pixels(picture)).any(axis=-1)  # [40, 60]
        blocks = changed.reshape(4, 10, 6, 10).any(axis=(1, 3))
        assert blocks.all()

    def test_is_the_same_for_every_sample(self, trigger: ImageTrigger, picture: Image.Image) -> None:
        assert trigger.apply(picture, Random(0)).tobytes() == trigger.apply(picture, Random(1)).tobytes()

    def test_leaves_the_given_picture_and_the_question_alone(self, trigger: ImageTrigger, picture: Image.Image) -> None:
        before = picture.tobytes()
        trigger.apply(picture, Random(0))
        assert picture.tobytes() == before
        assert trigger.apply_text("<image>\nWhat is it?", Random(0)) == "<image>\nWhat is it?"
        assert (trigger.marks_images, trigger.marks_text) == (True, False)


@given(width=st.integers(1, 40), height=st.integers(1, 40), trigger=st.sampled_from([Blended(), Sig(), WaNet(), WaNet(strength=40)]))
def test_a_global_trigger_fits_every_picture(width: int, height: int, trigger: ImageTrigger) -> None:
    marked = trigger.apply(Image.new("L", (width, height), 90), Random(0))
    assert (marked.mode, marked.size) == ("RGB", (width, height))
