"""Which addresses a tenant may have us connect to."""

from __future__ import annotations

import ipaddress
import socket
from typing import get_args

import pytest

from app.settings import Reach
from app.webhooks.addresses import AddressRefused, Destination, check_reachable, parse_url, resolve

PUBLIC = ["93.184.216.34", "168.63.129.17", "192.0.1.1", "2606:4700:4700::1111", "64:ff9b::5db8:d822"]
OWN = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]
PRIVATE = [
    *("10.1.2.3", "172.16.0.1", "192.168.1.1", "fd12:3456::1", "fec0::1"),
    *("100.64.0.1", "100.127.255.254"),  # a carrier's customers
    *("::ffff:10.0.0.1", "::ffff:100.64.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:f5ff:fffe"),
    *("192.0.2.1", "198.18.0.1"),  # documentation, benchmarks
    *("192.0.0.1", "192.0.0.9", "192.0.0.170", "192.88.99.1", "3fff::1", "3fff:fff::1", "::ffff:192.0.0.9"),  # special-purpose registries
]
NEVER = [
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%1"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "fd00:ec2::254", "100.100.100.200"),
    *("192.0.0.192", "168.63.129.16", "::ffff:192.0.0.192", "64:ff9b::a83f:8110"),
    *("0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "64:ff9b::"),  # noqa: S104
    *("224.0.0.1", "239.255.255.250", "ff02::1", "240.0.0.1", "255.255.255.255"),
    *("64:ff9b:1::1", "64:ff9b:1::7f00:1", "64:ff9b:1:ffff::a9fe:a9fe"),
    "::127.0.0.1",
]


def reaches(address: str) -> list[Reach]:
    """How far one must be let to get there."""
    found: list[Reach] = []
    for reach in get_args(Reach):
        try:
            check_reachable(ipaddress.ip_address(address), reach=reach)
        except AddressRefused:
            continue
        found.append(reach)
    return found


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(PUBLIC, ["public", "loopback", "private"]), (OWN, ["loopback", "private"]), (PRIVATE, ["private"]), (NEVER, [])],
    ids=["public", "own", "private", "never"],
)
def test_an_address_is_reached_by_those_who_may(addresses: list[str], expected: list[Reach]) -> None:
    assert {address: reaches(address) for address in addresses} == dict.fromkeys(addresses, expected)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", ["public", "loopback", "private"]),
        ("http://example.com", ["private"]),
        ("http://localhost:8000", ["loopback", "private"]),
        ("http://127.0.0.1", ["loopback", "private"]),
        ("https://service.localhost.", ["loopback", "private"]),
        ("https://2130706433", ["loopback", "private"]),
        ("https://0x7f.1", ["loopback", "private"]),
        ("https://LOCALHOST", ["loopback", "private"]),
        ("https://minio.internal", ["private"]),
        ("http://10.0.0.1", ["private"]),
        ("https://0251.0376.0251.0376", []),
        ("https://xn--bcher-kva.example", ["public", "loopback", "private"]),
        ("https://xn--strae-oqa.example.", ["public", "loopback", "private"]),
        ("https://hooks_of.example", ["public", "loopback", "private"]),
        ("https://xn--/", []),
        ("https://xn--a/", []),
        ("https://xn--zz--.com/", []),
        ("https://hooks..example", []),
        (f"https://{'a' * 64}.example", []),
    ],
)
def test_a_url_is_refused_when_it_is_set_where_that_can_be_told(url: str, expected: list[Reach]) -> None:
    found: list[Reach] = []
    for reach in get_args(Reach):
        try:
            parse_url(url, reach=reach)
        except AddressRefused:
            continue
        found.append(reach)
    assert found == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "https://user:secret@hooks.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "ftp://hooks.example/",
        "https:///nowhere",
        "https://hooks.example:99999/",
        "not a url",
    ],
)
def test_those_that_a_shared_server_must_not_call_are_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        parse_url(url, reach="public")


def test_those_behind_a_name_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [_entry("93.184.216.34"), _entry("10.0.0.1")])
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1 is not a public address"):
        resolve(Destination("https", "hooks.example", 443), reach="public")


def _entry(address: str) -> tuple[object, ...]:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))
