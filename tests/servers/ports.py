"""Free TCP ports for servers that cannot choose their own."""

from __future__ import annotations

import random
import socket

_chooser = random.SystemRandom()


def free_ports(count: int, *, also: int = 0) -> list[int]:
    """`count` ports of 127.0.0.1 that nobody listens on.

    also: for every port p, p + also is free too (SeaweedFS listens for gRPC 10,000 above each of its ports).

    They lie below the range from which systems give out ports to clients, so no connection takes one before its server does.
    """
    found: list[int] = []
    while len(found) < count:
        port = _chooser.randrange(12_000, 22_000)
        if port not in found and all(_is_free(p) for p in {port, port + also}):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
