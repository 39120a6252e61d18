"""The examples of docs/client.md, in their order, as one program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.embedded.local import Server
from tests.docs.markdown import blocks

PAGE = "docs/client.md"


def test_its_examples_do_what_they_say(
    server: Server, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("suspect", "training-set"):
        (tmp_path / name).symlink_to(checkout / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUSTRAL_SERVER", server.url)
    monkeypatch.setenv("LUSTRAL_API_KEY", server.api_key)
    exec(compile("\n".join(blocks(PAGE, "python")), PAGE, "exec"), {})  # noqa: S102
    said = capsys.readouterr().out
    assert "backdoored" in said
    assert "404 Not found req_" in said
    assert "<html" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "report.json").read_text())
