"""Serve the API on an open socket handed over by its number: `python -m app.embedded.api 7`."""

from __future__ import annotations

import socket
import sys

import uvicorn

from app.main import create_app


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    # Followers of events hold their connections open for as long as we let them, hence the limit on an orderly end.
    config = uvicorn.Config(create_app(), log_config=None, access_log=False, proxy_headers=False, timeout_graceful_shutdown=3)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
