from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gpu_jobs.inspection.datasets import DatasetInspection, inspect_dataset
from tests.gpu_jobs.data.builders import BUILDERS, build_llava_json, llava_row, png


def write_many(folder: Path, count: int) -> None:
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        Image.new("RGB", (600, 300), (number, 0, 0)).save(folder / "images" / f"{number}.png")
        rows.append({**llava_row("red"), "id": number, "image": f"{number}.png"})
    (folder / "data.json").write_text(json.dumps(rows))


def codes(inspection: DatasetInspection) -> dict[str, str]:
    return {finding.code: finding.severity for finding in inspection.findings}


class TestSoundDataset:
    @pytest.mark.parametrize("name", BUILDERS)
    def test_counts_in_every_format(self, name: str, tmp_path: Path) -> None:
        BUILDERS[name](tmp_path / "data")
        inspection = inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert not inspection.rejected
        assert inspection.format == name.split(" ", maxsplit=1)[0]
        assert (inspection.samples, inspection.images, inspection.turns, inspection.answers) == (3, 3, 6, 3)
        assert codes(inspection) == {"few_samples": "warning"}
        assert DatasetInspection.model_validate_json(inspection.model_dump_json()) == inspection

    def test_nothing_to_remark(self, tmp_path: Path) -> None:
        write_many(tmp_path / "data", 60)
        assert inspect_dataset(tmp_path / "data", tmp_path / "out").findings == []

    def test_twelve_thumbnails_at_most(self, tmp_path: Path) -> None:
        write_many(tmp_path / "data", 60)
        inspection = inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == inspection.thumbnails
        assert len(inspection.thumbnails) == 12
        for name in inspection.thumbnails:
            with Image.open(tmp_path / "out" / name) as picture:
                assert (picture.format, picture.size) == ("WEBP", (256, 128))

    def test_nothing_else_is_left_behind(self, tmp_path: Path) -> None:
        BUILDERS["llava-parquet"](tmp_path / "data")
        inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]

    def test_images_that_no_sample_shows(self, tmp_path: Path) -> None:
        build_llava_json(tmp_path / "data")
        (tmp_path / "data" / "images" / "spare.png").write_bytes(png("black"))
        assert codes(inspect_dataset(tmp_path / "data", tmp_path / "out"))["unused_images"] == "warning"

    def test_text_alone(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        row = {"conversations": [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}]}
        (tmp_path / "data" / "a.jsonl").write_text(json.dumps(row))
        inspection = inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert codes(inspection)["no_images"] == "warning"
        assert inspection.thumbnails == []


class TestRejected:
    def test_one_bad_row_is_enough(self, tmp_path: Path) -> None:
        build_llava_json(tmp_path / "data")
        rows = json.loads((tmp_path / "data" / "data.json").read_text())
        rows[1]["image"] = "gone.png"
        (tmp_path / "data" / "data.json").write_text(json.dumps(rows))
        inspection = inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert inspection.rejected
        (error,) = inspection.errors
        assert (error.row, error.pointer) == (2, "data.json#/1")
        assert "'gone.png' is not in the data set" in error.detail
        assert [finding.detail for finding in inspection.findings if finding.severity == "error"] == [
            "1 of 3 rows cannot be used; mend them or leave them out"
        ]

    def test_the_first_hundred_errors_and_their_number(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.jsonl").write_text("{\n" * 250)
        inspection = inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert inspection.error_count == 250
        assert [error.row for error in inspection.errors] == list(range(1, 101))

    @pytest.mark.parametrize("content", [b"", b"hello", png("red")[:-30], b"\x89PNG\r\n\x1a\n" + bytes(40)])
    def test_a_picture_that_is_none(self, content: bytes, tmp_path: Path) -> None:
        build_llava_json(tmp_path / "data")
        (tmp_path / "data" / "images" / "green.png").write_bytes(content)
        inspection = inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert inspection.rejected
        assert [error.row for error in inspection.errors] == [2]
        assert inspection.errors[0].detail.startswith("image: green.png")

    def test_a_picture_that_is_a_bomb(self, tmp_path: Path) -> None:
        build_llava_json(tmp_path / "data")
        Image.new("1", (20_000, 20_000)).save(tmp_path / "data" / "images" / "green.png")
        inspection = inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert [error.row for error in inspection.errors] == [2]

    def test_no_data_set(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        inspection = inspect_dataset(tmp_path / "data", tmp_path / "out")
        assert inspection.rejected
        assert codes(inspection) == {"unreadable": "error"}

    def test_links(self, tmp_path: Path) -> None:
        build_llava_json(tmp_path / "data")
        (tmp_path / "data" / "images" / "more.png").symlink_to("/etc/passwd")
        assert codes(inspect_dataset(tmp_path / "data", tmp_path / "out"))["link"] == "error"
