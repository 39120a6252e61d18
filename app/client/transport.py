"""HTTP to one server, tried again where trying again is safe."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Protocol

import httpx

from app.client.errors import ApiError, BadAddress
from app.client.retries import Retries


class Body(Iterable[bytes], Sized, Protocol):
    """The body of a request in pieces; iterated over once for each attempt."""


class Transport:
    """Every request is safe to repeat: those that create carry an `Idempotency-Key`, and the others change nothing when sent twice."""

    def __init__(self, server: str, api_key: str, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(
            base_url=_checked(server),
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(60.0, connect=10.0),
            follow_redirects=True,  # httpx drops the key when a redirect leaves the server, as signed links to storage do
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """The JSON of the answer ({} where there is none).

        Raises:
            ApiError: the server refused, or was unavailable for the better part of a minute.
            httpx.TransportError: no server was reached in that time.
        """
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        parameters = {name: value for name, value in query.items() if value is not None}
        response = self._send(self._http.build_request(method, path, json=body, headers=headers, params=parameters))
        document: dict[str, Any] = response.json() if response.content else {}
        return document

    def text(self, path: str, accept: str) -> str:
        """The body of a GET in the representation asked for."""
        return self._send(self._http.build_request("GET", path, headers={"Accept": accept})).text

    def put(self, url: str, content: Body, headers: dict[str, str]) -> None:
        """PUT bytes to a signed link, which need not lead to this server and must not be sent its key."""
        sized = {**headers, "Content-Length": str(len(content))}
        request = httpx.Request("PUT", self._http.base_url.join(url), content=content, headers=sized)
        request.extensions["timeout"] = self._http.timeout.as_dict()
        self._send(request)

    @contextmanager
    def stream(self, path: str, headers: dict[str, str] | None = None, *, patience: float = 60.0) -> Iterator[httpx.Response]:
        """An answer whose body is read piece by piece. Not tried again: only the reader knows where to go on.

        patience: seconds that may pass without a byte.
        """
        with self._http.stream("GET", path, headers=headers, timeout=httpx.Timeout(patience, connect=10.0)) as response:
            if response.is_error:
                response.read()
                raise ApiError(response)
            yield response

    def _send(self, request: httpx.Request) -> httpx.Response:
        retries = Retries()
        while True:
            try:
                response = self._http.send(request)
                if not response.is_error:
                    return response
                raise ApiError(response)
            except (ApiError, httpx.TransportError) as error:
                if not retries.wait_after(error):
                    raise


def _checked(server: str) -> httpx.URL:
    try:
        url = httpx.URL(server)
    except httpx.InvalidURL as error:
        raise BadAddress(f"{server!r} is no address: {error}.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise BadAddress(f"{server!r} is no address of a server, which looks like https://lustral.example or http://127.0.0.1:8000.")
    return url
