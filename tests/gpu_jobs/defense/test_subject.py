"""One model is kept warm, for whoever asks for the same bytes, frozen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpu_jobs.config import JobParameters
from gpu_jobs.defense import subject
from gpu_jobs.defense.subject import digest_of, load_model
from gpu_jobs.steps import StepInputs
from tests.gpu_jobs.defense.conftest import CHECKPOINT


@pytest.fixture(autouse=True)
def _cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_warm", {})


class TestWarmModel:
    def test_is_loaded_once_wherever_its_files_lie(self, tmp_path: Path) -> None:
        elsewhere = shutil.copytree(CHECKPOINT, tmp_path / "model")
        assert load_model(CHECKPOINT, digest="a") is load_model(elsewhere, digest="a")

    def test_gives_way_to_another(self) -> None:
        first = load_model(CHECKPOINT, digest="a")
        load_model(CHECKPOINT, digest="b")
        assert load_model(CHECKPOINT, digest="a") is not first

    def test_is_never_the_one_that_a_step_may_change(self) -> None:
        frozen = load_model(CHECKPOINT, digest="a")
        assert load_model(CHECKPOINT, digest="a", precise=True) is not frozen

    def test_does_not_stay_beside_one_that_is_to_be_trained(self) -> None:
        load_model(CHECKPOINT, digest="a")
        load_model(CHECKPOINT, precise=True)
        assert not subject._warm

    def test_is_not_kept_without_a_name(self) -> None:
        assert load_model(CHECKPOINT) is not load_model(CHECKPOINT)


def test_a_digest_tells_folders_within_a_folder_apart(tmp_path: Path) -> None:
    inputs = StepInputs(JobParameters(), tmp_path, tmp_path, digests={tmp_path / "forget": "abc", tmp_path / "model": "def"})
    assert digest_of(inputs, tmp_path / "forget" / "forgetful") == "abc/forgetful"
    assert digest_of(inputs, tmp_path / "model") == "def/."
    assert digest_of(inputs, tmp_path / "other") is None
