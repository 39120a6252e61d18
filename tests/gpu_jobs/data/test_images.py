from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from gpu_jobs.data.images import MAX_PIXELS, open_image
from gpu_jobs.errors import InputError
from tests.gpu_jobs.data.builders import png


class TestOpenImage:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
    def test_every_known_format(self, kind: str, tmp_path: Path) -> None:
        Image.new("RGB", (5, 4), "white").save(tmp_path / "a", kind)
        image = open_image(tmp_path / "a")
        assert (image.mode, image.size) == ("RGB", (5, 4))

    @pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "LA", "I;16"])
    def test_every_mode_becomes_rgb(self, mode: str, tmp_path: Path) -> None:
        Image.new(mode, (5, 4)).save(tmp_path / "a.png")
        assert open_image(tmp_path / "a.png").mode == "RGB"

    def test_text_under_the_name_of_a_picture(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("hello")
        with pytest.raises(InputError, match=r"a\.png is no picture of a known format"):
            open_image(tmp_path / "a.png")

    def test_formats_that_start_other_programs_are_not_decoded(self, tmp_path: Path) -> None:
        Image.new("RGB", (5, 4)).save(tmp_path / "a.png", "EPS")
        with pytest.raises(InputError, match="no picture of a known format"):
            open_image(tmp_path / "a.png")

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_truncated_pixels(self, kind: str, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        Image.effect_noise((64, 64), 80).convert("RGB").save(buffer, kind)
        (tmp_path / "a.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) * 2 // 3])
        with pytest.raises(InputError, match="cannot be decoded"):
            open_image(tmp_path / "a.png")

    def test_a_decompression_bomb_is_not_decoded(self, tmp_path: Path) -> None:
        side = int(MAX_PIXELS**0.5) + 1
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        assert (tmp_path / "bomb.png").stat().st_size < 100_000
        with pytest.raises(InputError, match="pixels; at most"):
            open_image(tmp_path / "bomb.png")

    def test_a_header_that_claims_more_pixels_than_can_be(self, tmp_path: Path) -> None:
        content = bytearray(png("red"))
        content[16:24] = (0x7FFF_FFFF).to_bytes(4, "big") * 2
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(InputError):
            open_image(tmp_path / "a.png")
