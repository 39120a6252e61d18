"""Which server a command talks to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from app.cli.failures import Failure
from app.client import BadAddress, Lustral
from app.embedded.folder import DataFolder, default_folder
from app.embedded.local import run_embedded


@dataclass(frozen=True, slots=True)
class Connection:
    """`ours`: the server was started for this command and goes when it ends, so work has to be waited for."""

    lustral: Lustral
    ours: bool


@contextmanager
def connect(server: str | None, api_key: str | None) -> Iterator[Connection]:
    """The server named, or the `lustral up` that runs on this machine, or one of our own on its data folder.

    Raises:
        Failure: the server's address is none, there is no key for it, or it does not answer.
        app.embedded.up.StartFailed: our own did not come up.
    """
    folder = DataFolder(default_folder())
    running = folder.running()
    if server is None and running is None:
        with run_embedded(folder.root) as own, Lustral(own.url, api_key or own.api_key) as lustral:
            yield Connection(lustral, ours=True)
        return
    url = server or (running["url"] if running else "")
    local_key = folder.api_key() if running and running["url"] == url.rstrip("/") else None
    key = api_key or local_key
    if key is None:
        raise Failure(f"No API key for {url}: set LUSTRAL_API_KEY.")
    try:
        with Lustral(url, key) as lustral:
            yield Connection(lustral, ours=False)
    except BadAddress as error:
        raise Failure(f"{error} Name the server by --server or LUSTRAL_SERVER.") from error
    except httpx.TransportError as error:
        try:
            asked = error.request.url
        except RuntimeError:  # an answer that was none: httpx-sse raises it without its request
            asked = httpx.URL(url)
        raise Failure(
            f"{asked.scheme}://{asked.netloc.decode()} does not answer: {error}. Is it up? --server or LUSTRAL_SERVER names another server."
        ) from error
