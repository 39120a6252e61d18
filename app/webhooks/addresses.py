"""Where messages go and files are fetched from. A tenant chooses the address, so it must not reach what only this server can reach."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import idna

from app.settings import Reach

_OWN_NAME = ".localhost"
_PRIVATE_NAMES = (".local", ".internal", ".home.arpa")

# Where IPv6 wraps an IPv4 address in its last four bytes.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_OF_A_NETWORK = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215: what is behind it is up to each network
# Where clouds keep a machine's credentials, besides link-local addresses: AWS by IPv6, Alibaba, Oracle, and Azure's WireServer.
_METADATA = tuple(
    ipaddress.ip_network(network) for network in ("fd00:ec2::/32", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32")
)
# Set aside for protocols, 6to4 relays and documentation; which of them Python calls global differs from one patch level to the next.
_SPECIAL = tuple(ipaddress.ip_network(network) for network in ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20"))
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")  # given up, but networks of old still use it; Python calls it global
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")  # many systems take it for themselves

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(ValueError):
    """Nothing is sent there. The message says why, and what would do."""


@dataclass(frozen=True, slots=True)
class Destination:
    """An address taken apart."""

    scheme: str
    host: str
    port: int


def parse_url(url: str, *, reach: Reach) -> Destination:
    """Check what can be checked without asking anybody. Plain http is for this machine itself, or for where private networks are.

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
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("must not contain a user name or password; check the signature instead")
    if parts.fragment or not url.isascii() or any(character.isspace() for character in url):
        raise AddressRefused("must have no fragment, and other than plain ASCII characters percent-encoded")
    literal = _literal_address(parts.hostname)
    if literal is None:
        _check_name(parts.hostname)
    name = f".{parts.hostname.rstrip('.').lower()}"
    ourselves = name.endswith(_OWN_NAME) if literal is None else _unwrapped(literal).is_loopback
    if literal is not None:
        check_reachable(literal, reach=reach)
    elif (ourselves and reach == "public") or (name.endswith(_PRIVATE_NAMES) and reach != "private"):
        raise AddressRefused(f"{parts.hostname} names a private machine")
    if parts.scheme == "http" and not (reach == "private" or (reach == "loopback" and ourselves)):
        raise AddressRefused("must use https, so that nobody on the way reads or changes what is sent")
    # Any other name is looked up when a connection is made.
    return Destination(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def resolve(destination: Destination, *, reach: Reach) -> list[IPAddress]:
    """The very addresses to connect to, the first that answers. Looking them up again later could give others, unchecked.

    Raises:
        AddressRefused: the name is unknown, or any of its addresses is one that we do not connect to.
    """
    try:
        found = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"the host {destination.host} cannot be found: {error}") from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    for address in addresses:
        check_reachable(address, reach=reach)
    return list(dict.fromkeys(addresses))


def check_reachable(address: IPAddress, *, reach: Reach) -> None:
    """Refuse everything but public unicast addresses and those that `reach` adds, also where IPv6 wraps IPv4.

    Raises:
        AddressRefused: loopback, private, shared by a carrier's customers, link-local (cloud metadata lives there), multicast,
            unspecified or reserved.
    """
    inner = _unwrapped(address)
    nobody = inner.is_multicast or inner.is_unspecified or (inner.is_reserved and not inner.is_loopback) or inner in _THIS_NETWORK
    if nobody or address in _NAT64_OF_A_NETWORK:
        raise AddressRefused(f"{address} is not an address of a host")
    if inner.is_link_local or any(inner in network for network in _METADATA):
        raise AddressRefused(f"{address} is an address that clouds keep for a machine's own affairs")
    public = inner.is_global and inner not in _SITE_LOCAL and not any(inner in network for network in _SPECIAL)
    if public or reach == "private" or (reach == "loopback" and inner.is_loopback):
        return
    raise AddressRefused(f"{address} is not a public address")


def _check_name(host: str) -> None:
    """Refuse what neither a resolver nor an HTTP client can take for a name.

    Raises:
        AddressRefused: a label is empty or has more than 63 characters, or `xn--` is followed by what no other script is written as.
    """
    try:
        host.encode("idna")
        if host.startswith("xn--"):
            idna.decode(host)  # as httpx does
    except UnicodeError as error:
        raise AddressRefused(f"{host} is not the name of a host: {error}") from error


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
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address
