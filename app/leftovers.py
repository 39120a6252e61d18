"""What processes leave behind that are killed in the middle of writing a file."""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

KEPT = timedelta(days=1)
"""Nobody takes so long to write one file, or to unpack one archive."""


def remove_leftovers(folder: Path, *, older_than: timedelta = KEPT) -> int:
    """Delete the files and folders in `folder` to which nothing has happened for so long; returns how many.

    By age, because whoever wrote them may have been a process of another machine.
    """
    before = (datetime.now(UTC) - older_than).timestamp()
    removed = 0
    for entry in folder.iterdir():
        with suppress(OSError):  # whoever wrote it has finished just now, or it is another user's
            # When it was last changed, linked or renamed: the time of its content may be that of a file it was linked to.
            if entry.stat().st_ctime > before:
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
            removed += 1
    return removed
