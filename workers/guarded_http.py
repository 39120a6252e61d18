"""HTTP to addresses that tenants name: each is looked up, checked and dialled itself, and nobody there can keep us waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import httpcore
import httpx

from app.settings import Reach
from app.webhooks.addresses import AddressRefused, Destination, IPAddress, parse_url, resolve

Check = Callable[[], None]
"""Called several times a second while we wait. May raise, to stop."""

LOOK_EVERY = 0.25
LOOKUP_SECONDS = 10.0
CONNECT_SECONDS = 4.0
LEAST_PACE = 16 * 1024
"""Bytes a second that a connection has to bring, over each `PACE_SECONDS` that we wait for it."""
PACE_SECONDS = 60.0

# Looking a name up cannot be interrupted; it can be left behind.
_lookups = ThreadPoolExecutor(8, thread_name_prefix="lookup")


class TooSlow(Exception):
    """The other side keeps the connection open and sends next to nothing. It may be better later."""


class GuardedTransport(httpx.HTTPTransport):
    """For `httpx.Client`. A name cannot lead elsewhere a moment after it was checked, and the certificate must be that of the name.

    No proxy of ours is used: it would look the name up again. SSL_CERT_FILE adds the authorities of a private network.
    """

    def __init__(self, *, reach: Reach, check: Check = lambda: None) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context, trust_env=False)
        self._reach = reach
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=GuardedBackend(httpcore, reach=reach, check=check),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises:
        AddressRefused: it is not one that this server calls.
        httpx.TransportError: nobody answers there, or the name is not known at present.
        TooSlow: what answers there does so too slowly.
        """
        parse_url(f"{request.url.scheme}://{request.url.netloc.decode()}", reach=self._reach)
        return super().handle_request(request)


class GuardedBackend(httpcore.NetworkBackend):
    """Makes the connections of a pool.

    core: the library that the pool is of, `httpcore` or `httpcore2`, which are alike but for their names.
    """

    def __init__(self, core: ModuleType, *, reach: Reach, check: Check) -> None:
        self._core: Any = core
        self._plain = self._core.SyncBackend()
        self._reach: Reach = reach
        self._check = check

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        for address in self._look_up(host, port):
            self._check()
            try:
                stream = self._plain.connect_tcp(str(address), port, _at_most(timeout), local_address, socket_options)
            except (self._core.ConnectError, self._core.ConnectTimeout) as error:
                failure = error
            else:
                return _WatchedStream(stream, self._core.ReadTimeout, self._check)
        raise failure or self._core.ConnectError(f"the host {host} has no address")

    def sleep(self, seconds: float) -> None:
        self._plain.sleep(seconds)

    def _look_up(self, host: str, port: int) -> list[IPAddress]:
        found = _lookups.submit(resolve, Destination("", host, port), reach=self._reach)
        until = time.monotonic() + LOOKUP_SECONDS
        while time.monotonic() < until:
            self._check()
            try:
                return found.result(LOOK_EVERY)
            except TimeoutError:
                continue
            except AddressRefused as refusal:
                if isinstance(refusal.__cause__, OSError):  # the name may be known again in a minute
                    raise self._core.ConnectError(str(refusal)) from refusal
                raise
        found.cancel()
        raise self._core.ConnectTimeout(f"looking {host} up took longer than {LOOKUP_SECONDS:.0f} s")


class _WatchedStream(httpcore.NetworkStream):
    """Waits in short pieces, so that whoever wants us to stop is heard, and minds how much arrives meanwhile."""

    def __init__(self, stream: httpcore.NetworkStream, read_timeout: type[Exception], check: Check) -> None:
        self._stream = stream
        self._read_timeout = read_timeout
        self._check = check
        self._waited = 0.0
        self._received = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            self._check()
            begun = time.monotonic()
            try:
                data = self._stream.read(max_bytes, LOOK_EVERY)
            except self._read_timeout:
                self._mind(0, time.monotonic() - begun)
                if until is not None and time.monotonic() >= until:
                    raise
                continue
            self._mind(len(data), time.monotonic() - begun)
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._check()
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> httpcore.NetworkStream:
        return _WatchedStream(self._stream.start_tls(ssl_context, server_hostname, _at_most(timeout)), self._read_timeout, self._check)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _mind(self, received: int, seconds: float) -> None:
        self._received += received
        self._waited += seconds
        if self._waited < PACE_SECONDS:
            return
        if self._received < LEAST_PACE * self._waited:
            raise TooSlow(f"only {self._received:,} bytes came in {self._waited:.0f} s")
        self._received, self._waited = 0, 0.0


def _at_most(timeout: float | None) -> float:
    """Making a connection cannot be interrupted, so it must not take long."""
    return CONNECT_SECONDS if timeout is None else min(timeout, CONNECT_SECONDS)
