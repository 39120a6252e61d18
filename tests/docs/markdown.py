"""The examples of a Markdown page. What stands in a block of `sh` or `python` is run by a test; blocks of no language are only shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from app.embedded.local import Server

ROOT = Path(__file__).parents[2]
RUNNABLE = ("sh", "python")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[str]:
    """Every page for people, by its path in the repository."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def blocks(page: str, *languages: str) -> list[str]:
    """The blocks of a page in these languages; `""` is those of none."""
    return [text for language, text in _BLOCK.findall((ROOT / page).read_text()) if language in languages]


def run_examples(page: str, folder: Path, server: Server) -> subprocess.CompletedProcess[str]:
    """Run the examples of a page one after the other, in one shell in `folder`, as somebody would who knows `server`."""
    commands = [
        text if language == "sh" else f"python - <<'END OF EXAMPLE'\n{text}END OF EXAMPLE\n"
        for language, text in _BLOCK.findall((ROOT / page).read_text())
        if language in RUNNABLE
    ]
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "LUSTRAL_SERVER": server.url,
        "LUSTRAL_API_KEY": server.api_key,
        **{name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ},
    }
    run = subprocess.run(["bash", "-euc", "\n".join(commands)], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run
