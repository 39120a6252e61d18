"""Connections to addresses that tenants name: only to what was checked, only under its name, and never for ever."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from app.webhooks.addresses import AddressRefused
from tests.servers.authority import Authority, run_secure
from workers import guarded_http
from workers.deliveries import Message, send
from workers.guarded_http import GuardedTransport, TooSlow

NAME = "hooks.example"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the resolver says of `hooks.example`, one after the other; the last one for ever."""
    said: list[str] = []
    original = socket.getaddrinfo

    def look_up(host: str, port: int, *arguments: object, **options: object) -> list[object]:
        if host != NAME:
            return list(original(host, port, *arguments, **options))  # type: ignore[arg-type]
        address = said.pop(0) if len(said) > 1 else said[0]
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return said


class TestResolver:
    """It may change its answer as often as it likes."""

    @pytest.fixture
    def dialled(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        made: list[str] = []

        def dial(address: tuple[str, int], *_: object, **__: object) -> None:
            made.append(address[0])
            raise ConnectionRefusedError

        monkeypatch.setattr(socket, "create_connection", dial)
        return made

    def ask(self) -> None:
        with httpx.Client(transport=GuardedTransport(reach="public")) as client:
            client.get(f"https://{NAME}/")

    def test_the_address_that_was_checked_is_dialled(self, answers: list[str], dialled: list[str]) -> None:
        answers += ["93.184.216.34", "169.254.169.254"]
        with pytest.raises(httpx.ConnectError):
            self.ask()
        assert dialled == ["93.184.216.34"]

    @pytest.mark.parametrize("bad", ["127.0.0.1", "169.254.169.254", "100.64.0.1", "::ffff:127.0.0.1", "64:ff9b:1::1"])
    def test_another_address_is_checked_when_it_is_asked_again(self, answers: list[str], dialled: list[str], bad: str) -> None:
        answers += ["93.184.216.34", bad]
        with pytest.raises(httpx.ConnectError):
            self.ask()
        with pytest.raises(AddressRefused):
            self.ask()
        assert dialled == ["93.184.216.34"]


class TestCertificates:
    @pytest.fixture
    def authority(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
        made = Authority(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
        return made

    @pytest.mark.parametrize(("certified", "accepted"), [(NAME, True), ("other.example", False), ("127.0.0.1", False)])
    def test_must_be_those_of_the_name_not_of_the_address(
        self, authority: Authority, answers: list[str], certified: str, accepted: bool
    ) -> None:
        answers += ["127.0.0.1"]
        with run_secure(authority.context_for(certified)) as server:
            message = Message("msg_1", "wh_1", "token", 1, f"https://{NAME}:{server.port}/hook", {}, b"{}")
            outcome = send(message, reach="loopback")
        assert server.asked_for == [NAME]
        assert (outcome.status_code, server.paths) == ((204, ["/hook"]) if accepted else (None, []))
        assert accepted or "CERTIFICATE_VERIFY_FAILED" in (outcome.error or "")


Talk = Callable[[socket.socket, threading.Event], None]


@contextmanager
def server_that(talk: Talk) -> Iterator[str]:
    """Answers each connection by `talk`, which is to end when the event is set."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.recv(65536)
                    talk(connection, over)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def drip_headers(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not over.wait(0.02):
        connection.sendall(b"x")


def drip_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not over.wait(0.02):
        connection.sendall(b"x")


def say_nothing(connection: socket.socket, over: threading.Event) -> None:
    over.wait(60)


class TestPatience:
    @pytest.mark.parametrize("talk", [drip_headers, drip_body])
    def test_ends_with_those_who_drip(self, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guarded_http, "PACE_SECONDS", 0.3)
        client = httpx.Client(transport=GuardedTransport(reach="loopback"), timeout=30)
        with server_that(talk) as url, client, pytest.raises(TooSlow, match="bytes came in"):
            client.get(url)

    @pytest.mark.parametrize("talk", [drip_headers, drip_body, say_nothing])
    def test_ends_when_we_are_told_to_stop(self, talk: Talk) -> None:
        class Stopped(Exception): ...

        begun = time.monotonic()

        def check() -> None:
            if time.monotonic() > begun + 0.1:
                raise Stopped

        transport = GuardedTransport(reach="loopback", check=check)
        with server_that(talk) as url, httpx.Client(transport=transport, timeout=60) as client, pytest.raises(Stopped):
            client.get(url)
        assert time.monotonic() - begun < 5

    def test_of_a_delivery_ends_after_its_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workers.deliveries.TOTAL_SECONDS", 0.2)
        with server_that(drip_headers) as url:
            outcome = send(Message("msg_1", "wh_1", "token", 1, url, {}, b"{}"), reach="loopback")
        assert (outcome.status_code, (outcome.error or "")[:16]) == (None, "no answer within")

    def test_does_not_follow_redirects(self) -> None:
        def redirect(connection: socket.socket, over: threading.Event) -> None:
            asked.append(1)
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        asked: list[int] = []
        with server_that(redirect) as url, httpx.Client(transport=GuardedTransport(reach="loopback")) as client:
            assert client.get(url).status_code == 302
        assert len(asked) == 1
