"""What is fetched of what there is."""

from __future__ import annotations

import pytest

from workers.fetching import selection
from workers.fetching.origin import RemoteFile, SourceRefused
from workers.fetching.selection import choose_files

PLENTY = 10**12


def remote(*paths: str, bytes: int = 1) -> list[RemoteFile]:
    return [RemoteFile(path=path, address=path, bytes=bytes, etag="") for path in paths]


def chosen(kind: str, *paths: str) -> list[str]:
    return [file.path for file in choose_files(kind, remote(*paths), PLENTY)[0]]


class TestChooseFiles:
    def test_takes_what_a_family_reads_and_nothing_that_runs(self) -> None:
        paths = ("model.safetensors", "config.json", "tower/model.safetensors", "chat_template.jinja", "pytorch_model.bin", "modeling.py")
        assert chosen("inspect_model", *paths) == ["chat_template.jinja", "config.json", "model.safetensors", "tower/model.safetensors"]

    def test_takes_a_zip_as_a_model_only_if_it_is_all_there_is(self) -> None:
        assert chosen("inspect_model", "model.zip") == ["model.zip"]
        assert chosen("inspect_model", "config.json", "old.zip") == ["config.json"]

    def test_takes_rows_and_pictures_of_a_data_set(self) -> None:
        assert chosen("inspect_dataset", "train.parquet", "images/1.PNG", "0001.tar", "a.zip", "x.py") == [
            "0001.tar",
            "a.zip",
            "images/1.PNG",
            "train.parquet",
        ]

    def test_leaves_hidden_files_alone(self) -> None:
        assert chosen("inspect_dataset", "data.json", ".cache/data.json", ".hidden.json") == ["data.json"]

    @pytest.mark.parametrize("paths", [("../data.json",), ("/data.json",), ("a//data.json",), ("a\\b.json",), ("a.json", "a.json/b.json")])
    def test_refuses_names_that_cannot_lie_in_one_folder(self, paths: tuple[str, ...]) -> None:
        with pytest.raises(SourceRefused) as refused:
            choose_files("inspect_dataset", remote(*paths), PLENTY)
        assert refused.value.finding.code == "bad_name"

    def test_refuses_too_many_files(self) -> None:
        with pytest.raises(SourceRefused) as refused:
            choose_files("inspect_dataset", remote(*(f"{number}.png" for number in range(selection.MOST_FILES + 1))), PLENTY)
        assert refused.value.finding.code == "too_large"
