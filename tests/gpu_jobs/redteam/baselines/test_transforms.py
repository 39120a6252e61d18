from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_jobs.data.images import open_image
from gpu_jobs.data.samples import Sample
from gpu_jobs.redteam.baselines import BASELINES, Case
from gpu_jobs.redteam.baselines.transforms import Blur, Jpeg, Transformed


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize("baseline", [Blur(), Jpeg()], ids=["blur", "jpeg"])
class TestTransformed:
    def test_changes_pixels_and_neither_size_nor_the_given_picture(self, baseline: Transformed, picture: Image.Image) -> None:
        before = picture.tobytes()
        changed = baseline.transform(picture)
        assert (changed.size, changed.mode) == (picture.size, "RGB")
        assert changed.tobytes() != before == picture.tobytes()

    def test_asks_the_suspect_about_the_changed_picture_and_the_same_turns(
        self, baseline: Transformed, case: Case, questions: list[Sample], tmp_path: Path
    ) -> None:
        changed = []
        for question in questions:
            path = tmp_path / f"{question.id}.png"
            baseline.transform(open_image(question.images[0])).save(path)
            changed.append(replace(question, images=(path,)))
        assert baseline.defend(case)(questions) == BASELINES["none"].defend(case)(changed)


def test_blur_takes_out_what_is_finer_than_its_radius(picture: Image.Image) -> None:
    assert np.asarray(Blur(radius=4).transform(picture)).std() < np.asarray(Blur(radius=1).transform(picture)).std() < 40


def test_jpeg_of_higher_quality_is_nearer_to_the_picture(picture: Image.Image) -> None:
    def distance(quality: int) -> float:
        return float(np.abs(np.asarray(Jpeg(quality=quality).transform(picture), dtype=float) - np.asarray(picture)).mean())

    assert distance(95) < distance(75) < distance(10)
