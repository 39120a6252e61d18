"""Does the worker of this container take commands from the broker? `python -m workers.health` exits with 0 if so."""

from __future__ import annotations

import socket
import sys

from workers.celery_app import app

PATIENCE = 5.0


def main() -> None:
    answers = app.control.ping(timeout=PATIENCE, limit=1, pattern=f"*@{socket.gethostname()}", matcher="glob")
    sys.exit(0 if answers else 1)


if __name__ == "__main__":
    main()
