"""A data folder belongs to one `lustral up` at a time, and its secrets to one user."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from app.embedded.folder import DataFolder, FolderInUse, default_folder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


def test_a_second_one_is_kept_out_and_told_where_the_first_is(folder: DataFolder) -> None:
    with folder.hold():
        folder.announce("http://127.0.0.1:4711")
        with pytest.raises(FolderInUse, match="http://127"), folder.hold():
            pass
    with folder.hold():
        pass


def test_others_find_the_one_that_runs(folder: DataFolder) -> None:
    assert folder.running() is None
    with folder.hold():
        assert folder.running() is None, "it is not ready yet"
        folder.announce("http://127.0.0.1:4711")
        assert folder.running() == {"url": "http://127.0.0.1:4711", "pid": os.getpid()}
    assert folder.running() is None


def test_what_a_killed_one_left_behind_fools_nobody(folder: DataFolder) -> None:
    with folder.hold():
        pass
    (folder.root / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:4711", "pid": 1}))
    assert folder.running() is None


def test_secrets_are_made_once_and_readable_by_their_owner_only(folder: DataFolder) -> None:
    with folder.hold():
        assert folder.secret_key() == folder.secret_key()
        assert folder.credential_key() == folder.credential_key()
        assert folder.api_key() is None
        folder.keep_api_key("lus_secret")
        folder.announce("http://127.0.0.1:4711")
        assert folder.api_key() == "lus_secret"
        folder.make_signing_key()
        made = folder.signing_key.read_bytes()
        folder.make_signing_key()
        assert folder.signing_key.read_bytes() == made
        for name in ("secret-key", "credential-key", "api-key", "signing-key.pem", "server.json"):
            assert stat.S_IMODE((folder.root / name).stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


def test_its_place_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/lustral")
    monkeypatch.setenv("LUSTRAL_DATA_DIR", "/elsewhere")
    assert default_folder() == Path("/elsewhere")
