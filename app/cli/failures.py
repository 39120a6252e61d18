"""Errors that a user can act on, as one message in place of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

COULD_NOT_TELL = 2
"""Exit status of everything that failed or found no answer."""


class Failure(Exception):
    """The command cannot go on. The message says why, and what would help."""


@contextmanager
def report_failures() -> Iterator[None]:
    """Print what went wrong on standard error and exit with status 2; 130 after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not _is_for_users(error):
            raise
        print(f"lustral: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(COULD_NOT_TELL)


def _is_for_users(error: Exception) -> bool:
    # Imported only now: a command that succeeds need not pay for the client, nor `up` for httpx.
    import httpx

    from app.client import ApiError, CorruptDownload, FileChanged, Rejected
    from app.embedded.folder import FolderInUse
    from app.embedded.up import StartFailed

    kinds = (Failure, ApiError, CorruptDownload, FileChanged, Rejected, FolderInUse, StartFailed, OSError, httpx.TransportError)
    return isinstance(error, kinds)
