"""The generated pages of docs/ are what the code says, and read well."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from app.errors import problem_kinds
from app.jobs.attempts import WORKER_LOST
from app.reference.__main__ import main
from app.reference.pages import generated_pages
from app.reference.schemas import anchor, describe_value

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return generated_pages()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["app.reference", *map(str, arguments)])
    return main()


class TestCheck:
    def test_passes_on_what_is_committed(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        status = run(monkeypatch, "--check", "--docs", ROOT / "docs")
        assert status == 0, capsys.readouterr().out

    def test_shows_what_has_changed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, pages: dict[str, str]
    ) -> None:
        for name, text in pages.items():
            (tmp_path / name).write_text(text.replace("Start a job.", "Start a task."))
        assert run(monkeypatch, "--check", "--docs", tmp_path) == 1
        said = capsys.readouterr()
        assert '-        "description": "Start a task.' in said.out
        assert '+        "description": "Start a job.' in said.out
        assert "make docs" in said.err
        assert run(monkeypatch, "--docs", tmp_path) == 0
        assert {name: (tmp_path / name).read_text() for name in pages} == pages


class TestReference:
    def test_its_links_lead_somewhere(self, pages: dict[str, str]) -> None:
        headings = {name: {anchor(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)} for name, text in pages.items()}
        links = re.findall(r"\]\(([\w.]*)#([^)]+)\)", pages["api.md"])
        assert len(links) > 150
        assert [link for link in links if link[1] not in headings[link[0] or "api.md"]] == []

    def test_its_tables_have_as_many_cells_as_columns(self, pages: dict[str, str]) -> None:
        columns = 0
        for line in pages["api.md"].splitlines():
            cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            assert cells in (columns, 0) or columns == 0, line
            columns = cells

    @pytest.mark.parametrize(
        ("schema", "words"),
        [
            ({"type": "integer", "minimum": 1, "maximum": 100}, "integer, at least 1, at most 100"),
            ({"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]}, "text or null, at most 9 characters"),
            ({"type": "string", "format": "date-time"}, "time"),
            ({"enum": ["a", "b"], "type": "string"}, "`a`, `b`"),
            ({"type": "array", "items": {"$ref": "#/components/schemas/Step"}, "maxItems": 3}, "list of [Step](#step), at most 3"),
            ({"$ref": "#/components/schemas/Page_Step_"}, "[page](#lists) of [Step](#step)"),
            ({"type": "object", "additionalProperties": {"type": "string"}}, "map of text to text"),
            ({}, "anything"),
        ],
    )
    def test_it_tells_types_in_words(self, schema: dict[str, Any], words: str) -> None:
        assert describe_value(schema) == words


class TestErrors:
    def test_each_is_explained(self) -> None:
        assert [kind.__name__ for kind in problem_kinds() if not kind.__doc__] == []

    def test_those_of_jobs_are_listed(self, pages: dict[str, str]) -> None:
        sources = [path.read_text() for room in ("app", "workers") for path in (ROOT / room).rglob("*.py")]
        with_title = re.compile(r"\b(?:problem\(\s*|return )\"([a-z-]+)\", \"")
        raised = {slug for text in sources for slug in with_title.findall(text)} | {WORKER_LOST}
        listed = set(re.findall(r"^\| `([a-z-]+)` \|", pages["errors.md"], re.MULTILINE))
        assert raised == listed
