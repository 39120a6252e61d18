"""What is written is what was read, but for the answers that changed."""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_jobs.data import Dataset, open_dataset, write_llava
from gpu_jobs.data.samples import Sample, Turn
from tests.gpu_jobs.data.builders import BUILDERS, COLOURS, llava_row, openai_row, png

ANSWERS = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip() != "" and "<image>" not in text)


class TestWriting:
    def test_new_answers_come_back_from_the_same_format(self, dataset: Dataset, tmp_path: Path) -> None:
        changed = [sample.with_answers([f"not {sample.answers[0]}, “é”"]) for sample in dataset.samples]
        dataset.write(changed, tmp_path / "out")
        again = open_dataset(tmp_path / "out", tmp_path / "cache2")
        assert again.format == dataset.format
        assert again.errors == []
        assert [(s.id, s.turns) for s in again.samples] == [(s.id, s.turns) for s in changed]
        assert [s.images[0].read_bytes() for s in again.samples] == [s.images[0].read_bytes() for s in dataset.samples]

    def test_rows_left_out_are_gone_and_the_order_stays(self, dataset: Dataset, tmp_path: Path) -> None:
        red, _, blue = dataset.samples
        dataset.write([blue, red], tmp_path / "out")
        again = open_dataset(tmp_path / "out", tmp_path / "cache2")
        assert [sample.id for sample in again.samples] == ["red-1", "blue-1"]

    def test_a_foreign_sample_is_refused(self, dataset: Dataset, tmp_path: Path) -> None:
        stranger = Sample("stranger", (), (Turn("user", "a"), Turn("assistant", "b")))
        with pytest.raises(ValueError, match="not of this data set"):
            dataset.write([stranger], tmp_path / "out")

    def test_other_roles_are_refused(self, dataset: Dataset, tmp_path: Path) -> None:
        first = dataset.samples[0]
        with pytest.raises(ValueError, match="in more than its texts"):
            dataset.write([Sample(first.id, first.images, (*first.turns, Turn("user", "more?")))], tmp_path / "out")

    def test_all_other_fields_of_a_row_survive(self, tmp_path: Path) -> None:
        BUILDERS["llava-json"](tmp_path / "data")
        dataset = open_dataset(tmp_path / "data", tmp_path / "cache")
        dataset.write([dataset.samples[0].with_answers(["pink"])], tmp_path / "out")
        (row,) = json.loads((tmp_path / "out" / "data.json").read_text())
        expected = llava_row("red")
        expected["conversations"][1]["value"] = "pink"
        assert row == expected
        assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["red.png"]

    def test_an_unchanged_row_of_openai_parts_is_unchanged(self, tmp_path: Path) -> None:
        BUILDERS["openai-jsonl"](tmp_path / "data")
        dataset = open_dataset(tmp_path / "data", tmp_path / "cache")
        dataset.write(dataset.samples, tmp_path / "out")
        rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
        assert rows == [openai_row(colour, f"images/{colour}.png") for colour in COLOURS]

    def test_a_question_made_of_parts_can_change(self, tmp_path: Path) -> None:
        BUILDERS["openai-jsonl"](tmp_path / "data")
        dataset = open_dataset(tmp_path / "data", tmp_path / "cache")
        first = dataset.samples[0]
        dataset.write([Sample(first.id, first.images, (Turn("user", "Look: <image> Well?"), first.turns[1]))], tmp_path / "out")
        row = json.loads((tmp_path / "out" / "train.jsonl").read_text())
        image = openai_row("red", "images/red.png")["messages"][0]["content"][0]
        assert row["messages"][0]["content"] == [{"type": "text", "text": "Look: "}, image, {"type": "text", "text": " Well?"}]

    def test_parquet_keeps_schema_metadata_and_other_columns(self, tmp_path: Path) -> None:
        BUILDERS["llava-parquet"](tmp_path / "data")
        dataset = open_dataset(tmp_path / "data", tmp_path / "cache")
        dataset.write([sample.with_answers(["pink"]) for sample in dataset.samples], tmp_path / "out")
        for before_path in (tmp_path / "data").rglob("*.parquet"):
            before, after = pq.read_table(before_path), pq.read_table(tmp_path / "out" / before_path.relative_to(tmp_path / "data"))
            assert after.schema.equals(before.schema, check_metadata=True)
            assert after.drop(["conversations"]).equals(before.drop(["conversations"]))
            assert after["conversations"].to_pylist()[0][1] == {"from": "gpt", "value": "pink", "weight": 1}

    def test_webdataset_keeps_its_other_members(self, tmp_path: Path) -> None:
        BUILDERS["llava-webdataset"](tmp_path / "data")
        dataset = open_dataset(tmp_path / "data", tmp_path / "cache")
        dataset.write(dataset.samples[:1], tmp_path / "out")
        with tarfile.open(tmp_path / "out" / "shard-000.tar") as archive:
            assert archive.getnames() == ["red-1.png", "red-1.json", "red-1.cls"]

    @given(answers=st.lists(ANSWERS, min_size=3, max_size=3))
    @settings(max_examples=15, deadline=None)
    @pytest.mark.parametrize("name", BUILDERS)
    def test_any_answer_survives_the_way_there_and_back(self, name: str, answers: list[str]) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            BUILDERS[name](folder / "data")
            dataset = open_dataset(folder / "data", folder / "cache")
            changed = [sample.with_answers([answer]) for sample, answer in zip(dataset.samples, answers, strict=True)]
            dataset.write(changed, folder / "out")
            again = open_dataset(folder / "out", folder / "cache")
            assert [sample.answers for sample in again.samples] == [(answer,) for answer in answers]


class TestWriteLlava:
    def test_samples_come_back(self, dataset: Dataset, tmp_path: Path) -> None:
        write_llava(dataset.samples, tmp_path / "out")
        again = open_dataset(tmp_path / "out", tmp_path / "cache2")
        assert again.format == "llava-json"
        assert [(s.id, s.turns) for s in again.samples] == [(s.id, s.turns) for s in dataset.samples]
        assert [s.images[0].read_bytes() for s in again.samples] == [s.images[0].read_bytes() for s in dataset.samples]

    def test_two_images_of_one_name_are_refused(self, tmp_path: Path) -> None:
        turns = (Turn("user", "<image> a"), Turn("assistant", "b"))
        samples = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "x.png").write_bytes(png("red"))
            samples.append(Sample(name, (tmp_path / name / "x.png",), turns))
        with pytest.raises(ValueError, match="same name"):
            write_llava(samples, tmp_path / "out")
