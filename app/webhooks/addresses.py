"""Where webhook messages may go. A tenant chooses the address, so it must not reach what only this server can reach."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

_LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(ValueError):
    """Nothing is sent there. The message says why, and what would do."""


@dataclass(frozen=True, slots=True)
class Destination:
    """An address taken apart."""

    scheme: str
    host: str
    port: int


def parse_url(url: str, *, allow_private: bool) -> Destination:
    """Check what can be checked without asking anybody. `allow_private` also lets plain http through.

    Raises:
        AddressRefused: not an address that messages are sent to.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefused(f"not a URL: {error}") from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise AddressRefused("must look like https://host/path")
    if parts.scheme == "http" and not allow_private:
        raise AddressRefused("must use https, so that nobody on the way reads or changes what is sent")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("must not contain a user name or password; check the signature instead")
    if parts.fragment or not url.isascii() or any(character.isspace() for character in url):
        raise AddressRefused("must have no fragment, and other than plain ASCII characters percent-encoded")
    literal = _literal_address(parts.hostname)
    if literal is not None:
        check_reachable(literal, allow_private=allow_private)
    elif not allow_private and f".{parts.hostname.rstrip('.')}".endswith(_LOCAL_NAMES):
        raise AddressRefused(f"{parts.hostname} names a private machine")
    # Any other name is looked up when something is sent.
    return Destination(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def resolve(destination: Destination, *, allow_private: bool) -> IPAddress:
    """The very address to connect to. Looking it up again later could give another, unchecked one.

    Raises:
        AddressRefused: the name is unknown, or any of its addresses is one that we do not connect to.
    """
    try:
        found = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"the host {destination.host} cannot be found: {error}") from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    for address in addresses:
        check_reachable(address, allow_private=allow_private)
    return addresses[0]


def check_reachable(address: IPAddress, *, allow_private: bool) -> None:
    """Refuse everything but public unicast addresses, also where IPv6 wraps IPv4.

    Raises:
        AddressRefused: loopback, private, link-local (cloud metadata lives there), multicast or reserved.
    """
    inner = _unwrapped(address)
    if inner.is_multicast or inner.is_unspecified or (inner.is_reserved and not inner.is_loopback):
        raise AddressRefused(f"{address} is not an address of a host")
    if inner.is_link_local:  # never: clouds hand out a machine's credentials there
        raise AddressRefused(f"{address} is a link-local address")
    if not allow_private and not inner.is_global:
        raise AddressRefused(f"{address} is not a public address")


def _literal_address(host: str) -> IPAddress | None:
    """The IP address that `host` is written as, in any form that resolvers take (`127.1`, `2130706433`, `0x7f.1`); None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _unwrapped(address: IPAddress) -> IPAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    nat64 = ipaddress.IPv6Network("64:ff9b::/96")
    if address in nat64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address
