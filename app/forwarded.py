"""Where a request came from, behind however many proxies of our own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(scope: Scope, trusted: Sequence[IPNetwork]) -> str | None:
    """The nearest address on the request's way that is not one of the `trusted` proxies; None where the connection has none.

    Each proxy adds whom it heard from at the end of `X-Forwarded-For`. What stands left of the first stranger is only that
    stranger's word.
    """
    peer = scope.get("client")
    here = _parse(peer[0]) if peer else None
    if here is None:
        return None
    hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
    while hops and any(here in network for network in trusted):
        before = _parse(hops.pop())
        if before is None:
            break
        here = before
    return str(here)


def _parse(text: str) -> IPAddress | None:
    """An address as proxies write it: plain, or with a port behind it."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
