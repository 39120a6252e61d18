"""What a command line asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.failures import Failure
from app.cli.order import Order, local_bytes, parse_metadata, parse_settings


class TestParseSettings:
    def test_nests_by_dots_and_reads_values_as_json(self) -> None:
        settings = [
            "masking.ratio=0.3",
            "seed=7",
            "purify.reanswer=all",
            'finetune.trainable=["projector"]',
            "generation.max_new_tokens=null",
        ]
        assert parse_settings(settings) == {
            "masking": {"ratio": 0.3},
            "seed": 7,
            "purify": {"reanswer": "all"},
            "finetune": {"trainable": ["projector"]},
            "generation": {"max_new_tokens": None},
        }

    @pytest.mark.parametrize("setting", ["seed", "=7"])
    def test_refuses_what_is_not_a_setting(self, setting: str) -> None:
        with pytest.raises(Failure, match="NAME=VALUE"):
            parse_settings([setting])

    def test_refuses_a_value_that_another_uses_as_a_group(self) -> None:
        with pytest.raises(Failure, match="masking is set to a value already"):
            parse_settings(["masking=1", "masking.ratio=0.3"])


class TestParseMetadata:
    def test_keeps_values_as_the_text_they_are(self) -> None:
        assert parse_metadata(["sha=0123", "run=a=b", "note="]) == {"sha": "0123", "run": "a=b", "note": ""}

    @pytest.mark.parametrize("entry", ["sha", "=0123"])
    def test_refuses_what_has_no_name_or_no_value(self, entry: str) -> None:
        with pytest.raises(Failure, match="--metadata takes NAME=VALUE"):
            parse_metadata([entry])


def test_only_local_files_are_counted_as_uploads(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"12345")
    (tmp_path / "data.jsonl").write_bytes(b"123")
    order = Order("defend", str(tmp_path / "model"), str(tmp_path / "data.jsonl"), triggered="dset_1", clean="s3://bucket/clean/")
    assert local_bytes(order) == 8
