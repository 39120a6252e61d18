"""The paths in a SARIF file lead from where CI runs to the data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli.order import Order
from app.cli.sarif import write_sarif

DATASET = {"uri": "train.jsonl", "uriBaseId": "DATASET"}
MODEL = {"uri": "config.json", "uriBaseId": "MODEL"}


def _log() -> str:
    locations = [{"physicalLocation": {"artifactLocation": location}} for location in (MODEL, DATASET)]
    return json.dumps({"runs": [{"results": [{"locations": [location]} for location in locations]}]})


def _written(path: Path) -> list[dict[str, str]]:
    [run] = json.loads(path.read_text())["runs"]
    return [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in run["results"]]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "repository" / "my data").mkdir(parents=True)
    (tmp_path / "repository" / "my data" / "train.jsonl").touch()
    (tmp_path / "repository" / "model").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.mark.parametrize("dataset", ["my data", "my data/train.jsonl", "../repository/my data"])
def test_a_folder_or_file_below_the_working_folder_stands_before_its_paths(repository: Path, dataset: str) -> None:
    write_sarif(_log(), repository / "out" / "lustral.sarif", Order("scan", "./model", dataset))
    assert _written(repository / "out" / "lustral.sarif") == [{"uri": "model/config.json"}, {"uri": "my%20data/train.jsonl"}]


@pytest.mark.parametrize("dataset", ["../elsewhere", "s3://bucket/data", "dset_1"])
def test_any_other_source_is_left_as_it_is(repository: Path, dataset: str) -> None:
    write_sarif(_log(), repository / "lustral.sarif", Order("scan", "model_1", dataset))
    assert _written(repository / "lustral.sarif") == [MODEL, DATASET]
