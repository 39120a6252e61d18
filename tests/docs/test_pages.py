"""Pages keep their promises: what looks runnable is run by a test, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer

from app.cli import cli
from app.reference.schemas import anchor
from tests.docs.markdown import ROOT, RUNNABLE, blocks, pages

# Pages with examples, and the tests that run them.
RUN_BY = {
    "README.md": "tests/docs/test_readme.py",
    "docs/quickstart.md": "tests/docs/test_quickstart.py",
    "docs/webhooks.md": "tests/docs/test_webhooks.py",
    "docs/client.md": "tests/docs/test_client.py",
    "docs/ci/README.md": "tests/docs/ci/test_tutorial.py",
}
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)")
COMMAND = re.compile(r"^(?:docker compose exec \w+ )?lustral .*?(?=\s{2,}#|$)", re.MULTILINE)


def test_every_example_is_run() -> None:
    with_examples = {page for page in pages() if blocks(page, *RUNNABLE)}
    assert with_examples == RUN_BY.keys()
    for page, test in RUN_BY.items():
        assert page in (ROOT / test).read_text(), f"{test} does not run {page}"


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target, fragment in LINK.findall(re.sub(r"`[^`\n]*`", "", path.read_text())):
        linked = path.parent / target if target else path
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{target}#{fragment}"


@pytest.mark.parametrize("page", [page for page in pages() if any(COMMAND.search(block) for block in blocks(page, "", "sh"))])
def test_commands_and_their_options_exist(page: str) -> None:
    for block in blocks(page, "", "sh"):
        for line in COMMAND.findall(block.replace("\\\n", " ")):
            understand(line)


@pytest.mark.parametrize("line", ["lustral devend a b", "lustral jobs lisst", "lustral defend a b --outpt x", "lustral verify"])
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises(AssertionError, match=line):
        understand(line)


def understand(line: str) -> None:
    """Parse a command line of `lustral` without running it.

    Raises:
        AssertionError: there is no such command, or it takes no such arguments.
    """
    words = shlex.split(line.partition("lustral ")[2].partition(" || ")[0].partition(" > ")[0])
    command: Any = typer.main.get_command(cli)
    context = None
    try:
        while hasattr(command, "resolve_command"):
            context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
            _, command, words = command.resolve_command(context, words)
        command.make_context(command.name, words, parent=context)
    except Exception as error:
        raise AssertionError(f"{line}: {error}") from error
