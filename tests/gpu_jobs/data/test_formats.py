from __future__ import annotations

import contextlib
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gpu_jobs.data import Dataset, open_dataset
from gpu_jobs.data.samples import Turn
from gpu_jobs.errors import InputError
from tests.gpu_jobs.data.builders import BUILDERS, COLOURS, QUESTION, add_member, llava_row, openai_row, png, write_images

WORDS = (
    "id",
    "image",
    "images",
    "conversations",
    "messages",
    "from",
    "value",
    "role",
    "content",
    "type",
    "text",
    "image_url",
    "url",
    "system",
    "path",
)


def read_rows(folder: Path, rows: list[Any], tmp_path: Path) -> Dataset:
    write_images(folder)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_dataset(folder, tmp_path / "cache")


def problem_of(row: Any, tmp_path: Path) -> str:
    """What is said of a row that stands between two good ones, which must both be read."""
    found = read_rows(tmp_path / "data", [llava_row("red"), row, llava_row("blue")], tmp_path)
    assert [sample.id for sample in found.samples] == ["red-1", "blue-1"]
    (problem,) = found.errors
    assert problem.row == 2
    assert problem.pointer.startswith("data.jsonl#/1")
    return problem.detail


class TestReading:
    def test_every_format_says_the_same(self, dataset: Dataset) -> None:
        assert dataset.errors == []
        assert [sample.id for sample in dataset.samples] == ["red-1", "green-1", "blue-1"]
        for colour, sample in zip(COLOURS, dataset.samples, strict=True):
            assert sample.turns == (Turn("user", f"<image>\n{QUESTION}"), Turn("assistant", colour))
            (path,) = sample.images
            assert path.is_absolute()
            with Image.open(path) as image:
                assert image.getpixel((0, 0)) == Image.new("RGB", (1, 1), colour).getpixel((0, 0))

    def test_an_embedded_image_is_kept_once(self, tmp_path: Path) -> None:
        BUILDERS["llava-parquet"](tmp_path / "data")
        first = open_dataset(tmp_path / "data", tmp_path / "cache")
        second = open_dataset(tmp_path / "data", tmp_path / "cache")
        assert [sample.images for sample in first.samples] == [sample.images for sample in second.samples]
        assert sum(path.is_file() for path in (tmp_path / "cache").rglob("*")) == 3

    def test_several_turns_and_system(self, tmp_path: Path) -> None:
        turns = [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "a?"},
            {"from": "gpt", "value": "b"},
            {"from": "human", "value": "c?"},
            {"from": "gpt", "value": "d"},
        ]
        (sample,) = read_rows(tmp_path / "data", [{"id": 5, "conversations": turns}], tmp_path).samples
        assert sample.id == "5"
        assert [turn.role for turn in sample.turns] == ["system", "user", "assistant", "user", "assistant"]
        assert sample.answers == ("b", "d")

    def test_one_image_that_no_turn_mentions_goes_to_the_first_question(self, tmp_path: Path) -> None:
        row = {"image": "red.png", "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "red"}]}
        (sample,) = read_rows(tmp_path / "data", [row], tmp_path).samples
        assert sample.turns[0].text == "<image>\nWhat?"

    def test_a_missing_id_is_made_from_the_row_number(self, tmp_path: Path) -> None:
        rows = [llava_row("red"), {**llava_row("green"), "id": None}]
        assert [sample.id for sample in read_rows(tmp_path / "data", rows, tmp_path).samples] == ["red-1", "row-000002"]

    def test_blank_lines_and_a_byte_order_mark_are_no_rows(self, tmp_path: Path) -> None:
        (tmp_path / "data.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(openai_row("red", "r.png")).encode() + b"\n\n \r\n")
        (tmp_path / "r.png").write_bytes(png("red"))
        found = open_dataset(tmp_path, tmp_path / "cache")
        assert (len(found.samples), found.errors) == (1, [])

    def test_rows_of_several_shards_are_numbered_through(self, tmp_path: Path) -> None:
        write_images(tmp_path)
        (tmp_path / "a.jsonl").write_text(json.dumps(llava_row("red")) + "\n")
        (tmp_path / "b.jsonl").write_text("{\n" + json.dumps(llava_row("green")) + "\n")
        found = open_dataset(tmp_path, tmp_path / "cache")
        assert [sample.id for sample in found.samples] == ["red-1", "green-1"]
        assert [(error.row, error.pointer) for error in found.errors] == [(2, "b.jsonl#/0")]

    def test_other_json_beside_the_rows_is_passed_over(self, tmp_path: Path) -> None:
        BUILDERS["llava-json"](tmp_path)
        (tmp_path / "classes.json").write_text('["cat", "dog"]')
        (tmp_path / "dataset_info.json").write_text('{"description": "x"}')
        assert len(open_dataset(tmp_path, tmp_path / "cache").samples) == 3

    def test_images_of_one_archive_member_each(self, tmp_path: Path) -> None:
        turns = [{"from": "human", "value": "<image> or <image>?"}, {"from": "gpt", "value": "the first"}]
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            add_member(archive, "x/7.json", json.dumps({"conversations": turns}).encode())
            add_member(archive, "x/7.0.png", png("red"))
            add_member(archive, "x/7.1.png", png("blue"))
        (sample,) = open_dataset(tmp_path, tmp_path / "cache").samples
        assert sample.id == "x/7"
        assert [path.read_bytes() for path in sample.images] == [png("red"), png("blue")]


class TestRowErrors:
    def test_broken_line(self, tmp_path: Path) -> None:
        write_images(tmp_path / "data")
        lines = [json.dumps(llava_row("red")), '{"id": "x", "conversations": [', json.dumps(llava_row("blue"))]
        (tmp_path / "data" / "data.jsonl").write_text("\n".join(lines))
        found = open_dataset(tmp_path / "data", tmp_path / "cache")
        assert len(found.samples) == 2
        assert [(error.row, error.pointer) for error in found.errors] == [(2, "data.jsonl#/1")]
        assert "not valid JSON" in found.errors[0].detail

    def test_row_that_is_no_object(self, tmp_path: Path) -> None:
        assert "must be a JSON object" in problem_of([1], tmp_path)

    def test_missing_image(self, tmp_path: Path) -> None:
        assert "'images/purple.png' is not in the data set" in problem_of({**llava_row("green"), "image": "images/purple.png"}, tmp_path)

    @pytest.mark.parametrize(
        "address", ["http://example.org/a.png", "HTTPS://example.org/a.png", "s3://b/a.png", "file:///etc/passwd", "//host/a.png"]
    )
    def test_remote_image(self, address: str, tmp_path: Path) -> None:
        assert "nothing is fetched" in problem_of({**llava_row("green"), "image": address}, tmp_path)

    def test_remote_image_url(self, tmp_path: Path) -> None:
        assert "nothing is fetched" in problem_of(openai_row("green", "https://example.org/a.png"), tmp_path)

    def test_absolute_image(self, tmp_path: Path) -> None:
        outside = tmp_path / "secret.png"
        outside.write_bytes(png("red"))
        assert "is absolute" in problem_of({**llava_row("green"), "image": str(outside)}, tmp_path)

    def test_image_outside_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "secret.png").write_bytes(png("red"))
        assert "leaves the data set's folder" in problem_of({**llava_row("green"), "image": "../secret.png"}, tmp_path)

    def test_image_through_a_link_out_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "secret.png").write_bytes(png("red"))
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
        assert "leaves the data set's folder" in problem_of({**llava_row("green"), "image": "link.png"}, tmp_path)

    @pytest.mark.parametrize("image", [7, {"path": None}, {"bytes": None}, [None]])
    def test_image_that_is_no_reference(self, image: object, tmp_path: Path) -> None:
        assert problem_of({**llava_row("green"), "image": image}, tmp_path).startswith("image: ")

    @pytest.mark.parametrize("url", ["data:image/png;base64,@@@", "data:text/html,hello", "data:image/png;base64,"])
    def test_bad_data_url(self, url: str, tmp_path: Path) -> None:
        assert problem_of(openai_row("green", url), tmp_path).startswith("image: ")

    def test_duplicate_id(self, tmp_path: Path) -> None:
        assert "already that of row 1" in problem_of({**llava_row("green"), "id": "red-1"}, tmp_path)

    @pytest.mark.parametrize("value", [1.5, True, ["a"], "x" * 600, "a\nb"])
    def test_unusable_id(self, value: object, tmp_path: Path) -> None:
        assert "the id must" in problem_of({**llava_row("green"), "id": value}, tmp_path)

    def test_more_placeholders_than_images(self, tmp_path: Path) -> None:
        row = llava_row("green")
        row["conversations"][0]["value"] = "<image><image> what?"
        assert problem_of(row, tmp_path) == "1 images but 2 `<image>` in the text; write one for each image"

    def test_two_images_that_no_turn_mentions(self, tmp_path: Path) -> None:
        row = {"images": ["red.png", "blue.png"], "conversations": [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "red"}]}
        assert problem_of(row, tmp_path).startswith("2 images but 0")

    def test_placeholder_in_an_answer(self, tmp_path: Path) -> None:
        row = llava_row("green")
        row["conversations"][1]["value"] = "see <image>"
        assert "only the user shows images" in problem_of(row, tmp_path)

    def test_unknown_role(self, tmp_path: Path) -> None:
        row = llava_row("green")
        row["conversations"][1]["from"] = "observation"
        assert "unknown role 'observation'" in problem_of(row, tmp_path)

    def test_no_answer(self, tmp_path: Path) -> None:
        row = llava_row("green")
        del row["conversations"][1]
        assert "no answer follows" in problem_of(row, tmp_path)

    def test_answer_before_any_question(self, tmp_path: Path) -> None:
        row = llava_row("green")
        row["conversations"].reverse()
        assert "no answer follows" in problem_of(row, tmp_path)

    def test_empty_answer(self, tmp_path: Path) -> None:
        row = llava_row("green")
        row["conversations"][1]["value"] = " \n"
        assert problem_of(row, tmp_path) == "the answer is empty"

    @pytest.mark.parametrize("row", [{}, {"conversations": []}, {"messages": None}, {"text": "hello"}, {"conversations": "hello"}])
    def test_no_conversation(self, row: dict[str, Any], tmp_path: Path) -> None:
        assert "conversation" in problem_of(row, tmp_path)

    @pytest.mark.parametrize(
        "turn", [None, "hello", {}, {"from": "human"}, {"from": "human", "value": 3}, {"role": ["user"], "content": "a"}]
    )
    def test_malformed_turn(self, turn: object, tmp_path: Path) -> None:
        problem_of({"conversations": [turn, {"from": "gpt", "value": "a"}]}, tmp_path)

    @pytest.mark.parametrize("part", [None, "hello", {"type": "video_url"}, {"type": "text"}, {"type": ["text"]}])
    def test_malformed_part(self, part: object, tmp_path: Path) -> None:
        problem_of({"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "a"}]}, tmp_path)

    def test_video(self, tmp_path: Path) -> None:
        assert "`video` is not supported" in problem_of({**llava_row("green"), "video": "a.mp4"}, tmp_path)

    def test_image_whose_name_is_no_valid_unicode(self, tmp_path: Path) -> None:
        assert "is not in the data set" in problem_of({**llava_row("green"), "image": "\ud800.png"}, tmp_path)

    def test_what_a_row_says_is_quoted_in_short(self, tmp_path: Path) -> None:
        row = llava_row("green")
        row["conversations"][1]["from"] = "x" * 100_000
        assert len(problem_of(row, tmp_path)) < 300

    def test_lone_surrogate(self, tmp_path: Path) -> None:
        row = llava_row("green")
        row["conversations"][1]["value"] = "\ud800"
        assert "not valid Unicode" in problem_of(row, tmp_path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "gpt", "<image>", "images/red.png"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


class TestAnything:
    @given(rows=st.lists(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(WORDS, JSON)), min_size=1, max_size=5))
    @settings(max_examples=100, deadline=None)
    def test_every_row_becomes_a_sample_or_an_error(self, rows: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "data"
            found = read_rows(folder, rows, Path(temporary))
            assert len(found.samples) + len(found.errors) == len(rows)
            found.write(found.samples, Path(temporary) / "out")

    @given(data=st.data(), name=st.sampled_from(sorted(BUILDERS)))
    @settings(max_examples=100, deadline=None)
    def test_damaged_files_are_errors_and_nothing_else(self, data: st.DataObject, name: str) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            BUILDERS[name](Path(temporary) / "data")
            path = next(path for path in sorted((Path(temporary) / "data").rglob("*")) if path.is_file() and path.suffix != ".png")
            content = bytearray(path.read_bytes())
            for _ in range(data.draw(st.integers(1, 4))):
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
            path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
            with contextlib.suppress(InputError):
                open_dataset(Path(temporary) / "data", Path(temporary) / "cache")


class TestUnreadable:
    def test_no_rows_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "readme.txt").write_text("hello")
        with pytest.raises(InputError, match="no file of rows was found"):
            open_dataset(tmp_path, tmp_path / "cache")

    def test_empty_list(self, tmp_path: Path) -> None:
        (tmp_path / "data.json").write_text("[]")
        with pytest.raises(InputError, match=r"data\.json holds no rows"):
            open_dataset(tmp_path, tmp_path / "cache")

    def test_broken_json_names_line_and_column(self, tmp_path: Path) -> None:
        (tmp_path / "data.json").write_text('[\n {"id": 1},\n {"id" 2}]')
        with pytest.raises(InputError, match="line 3, column 8"):
            open_dataset(tmp_path, tmp_path / "cache")

    @pytest.mark.parametrize("content", [b'[{"a": ' + b"[" * 200_000, b'[{"a": "\xff"}]', b'[{"a": ' + b"9" * 10_000 + b"}]"])
    def test_json_that_breaks_readers(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "data.json").write_bytes(content)
        with pytest.raises(InputError, match="not valid JSON"):
            open_dataset(tmp_path, tmp_path / "cache")

    def test_several_kinds_of_rows(self, tmp_path: Path) -> None:
        BUILDERS["llava-json"](tmp_path / "a")
        BUILDERS["llava-parquet"](tmp_path / "b")
        with pytest.raises(InputError, match=r"several data sets: a/data\.json \(json\), b/data/train-.* \(parquet\)"):
            open_dataset(tmp_path, tmp_path / "cache")

    def test_truncated_parquet(self, tmp_path: Path) -> None:
        BUILDERS["openai-parquet with JSON text"](tmp_path / "data")
        path = tmp_path / "data" / "train.parquet"
        os.truncate(path, path.stat().st_size - 20)
        with pytest.raises(InputError, match="not a sound Parquet file"):
            open_dataset(tmp_path / "data", tmp_path / "cache")

    def test_parquet_of_something_else(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"price": [1, 2]}), tmp_path / "a.parquet")
        with pytest.raises(InputError, match="no column `conversations` or `messages`; it has price"):
            open_dataset(tmp_path, tmp_path / "cache")

    def test_truncated_tar(self, tmp_path: Path) -> None:
        BUILDERS["llava-webdataset"](tmp_path / "data")
        os.truncate(tmp_path / "data" / "shard-000.tar", 1600)
        with pytest.raises(InputError, match="not a sound tar archive"):
            open_dataset(tmp_path / "data", tmp_path / "cache")

    def test_tar_with_a_damaged_header_in_the_middle_loses_no_sample_in_silence(self, tmp_path: Path) -> None:
        BUILDERS["llava-webdataset"](tmp_path / "data")
        path = tmp_path / "data" / "shard-000.tar"
        content = bytearray(path.read_bytes())
        at = content.index(b"green-1.png")
        content[at : at + 5] = b"GREEN"
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged header"):
            open_dataset(tmp_path / "data", tmp_path / "cache")

    def test_tar_with_a_key_that_is_no_valid_unicode(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
            add_member(archive, "é.json", json.dumps(llava_row("red")).encode())
        found = open_dataset(tmp_path, tmp_path / "cache")
        assert "unprintable" in found.errors[0].detail

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
    def test_tar_with_links_or_devices(self, kind: bytes, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            member = tarfile.TarInfo("0.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        with pytest.raises(InputError, match=r"'0\.png' is a link, a device"):
            open_dataset(tmp_path, tmp_path / "cache")


class TestPlaces:
    """A row is found again in its file by an editor."""

    @pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
    @pytest.mark.parametrize("indent", [None, 2])
    def test_line_and_column_lead_to_the_row(self, name: str, indent: int | None, tmp_path: Path) -> None:
        write_images(tmp_path)
        rows = [{**llava_row(colour), "note": "[, é]"} for colour in COLOURS]
        if name.endswith("l"):
            content = "\ufeff" + "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        else:
            content = "\n " + json.dumps(rows, indent=indent, ensure_ascii=False)
        (tmp_path / name).write_text(content, encoding="utf-8")
        dataset = open_dataset(tmp_path, tmp_path / "cache")
        places = dataset.places_of(dataset.samples[1:])
        assert set(places) == {"green-1", "blue-1"}
        for number, sample in enumerate(dataset.samples[1:], 1):
            place = places[sample.id]
            assert (place.file, place.pointer) == (name, f"{name}#/{number}")
            assert place.line is not None
            assert place.column is not None
            lines = content.removeprefix("\ufeff").split("\n")
            rest = "\n".join([lines[place.line - 1][place.column - 1 :], *lines[place.line :]])
            assert json.JSONDecoder().raw_decode(rest)[0]["id"] == sample.id

    @pytest.mark.parametrize("name", ["llava-parquet", "llava-webdataset"])
    def test_files_that_are_no_text_have_no_lines(self, name: str, tmp_path: Path) -> None:
        BUILDERS[name](tmp_path / "data")
        dataset = open_dataset(tmp_path / "data", tmp_path / "cache")
        [place] = dataset.places_of([dataset.samples[2]]).values()
        assert (place.line, place.column) == (None, None)
        assert place.pointer.startswith(f"{place.file}#/")
