"""`python -m app.reference` writes the generated pages of docs/; with `--check` it shows what would change, and fails if anything would."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from app.reference.pages import generated_pages


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m app.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; show the difference and exit with 1 if there is any.")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="The folder that the pages lie in.")
    arguments = parser.parse_args()
    stale = 0
    for name, text in generated_pages().items():
        path = arguments.docs / name
        before = path.read_text() if path.exists() else ""
        if arguments.check:
            difference = list(difflib.unified_diff(before.splitlines(True), text.splitlines(True), str(path), f"{path} (from the code)"))
            sys.stdout.writelines(difference)
            stale += bool(difference)
        else:
            path.write_text(text)
    if stale:
        print("These pages are not what the code says. `make docs` writes them.", file=sys.stderr)  # noqa: T201
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main())
