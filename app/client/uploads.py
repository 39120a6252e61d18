"""Local files on their way to a server, in parts that need to be sent only once."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.client.errors import ApiError, FileChanged
from app.client.transport import Transport
from app.uploads.sizes import choose_part_size, part_sizes

PART_SIZE = 16 * 1024 * 1024
PARALLEL_PARTS = 4
PAUSE = 1.0
"""Seconds between two looks at a completion that takes longer than a request."""
_BLOCK = 1024 * 1024

Advance = Callable[[int], object]
"""Told the number of bytes that were just sent, or found to be there already."""
Resumed = Callable[[str, int, int], object]
"""Told the name of a file of which some parts are there already, how many these are, and how many it has."""


def ignore(*_: object) -> None:
    """For callers that watch nothing."""


def upload_file(transport: Transport, path: Path, advance: Advance = ignore, resumed: Resumed = ignore) -> str:
    """Send one file in parts, several at a time, and return the id of the completed upload.

    Whatever breaks it off leaves the upload on the server. The next call with the same bytes finds it by their digest and sends
    only what is missing; nothing at all where the tenant has these bytes already.

    Raises:
        FileChanged: somebody wrote to the file meanwhile.
        ApiError: the server or its object store refused.
        httpx.TransportError: neither was reached for the better part of a minute.
    """
    state = path.stat()
    size = state.st_size
    digests = digest_file(path, size, choose_part_size(size, PART_SIZE))
    upload = _find_open(transport, digests.whole) or _create(transport, path, size, digests)
    sizes = part_sizes(size, upload["part_size"])
    there = sizes if upload["status"] != "open" else [part["bytes"] for part in upload["parts"] if part["received"]]
    if there:
        resumed(path.name, len(there), len(sizes))
        advance(sum(there))
    try:
        _send_missing(transport, path, upload, advance)
        _complete(transport, upload["id"])
    except (ApiError, FileChanged) as error:
        if not _has_changed(path, state):
            raise
        with suppress(ApiError, httpx.TransportError):  # of no use any more; it expires by itself
            transport.call("DELETE", f"/v1/uploads/{upload['id']}")
        raise FileChanged(f"{path} changed while it was being sent. Run the same again.") from error
    upload_id: str = upload["id"]
    return upload_id


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 in hexadecimal, of a whole file and of each of its parts."""

    whole: str
    parts: list[str]


def digest_file(path: Path, size: int, part_size: int) -> Digests:
    """Read a file once, for all of its digests at the same time.

    Raises:
        FileChanged: it has other than `size` bytes by now.
    """
    whole, parts, received = hashlib.sha256(), [], 0
    with path.open("rb") as file, ThreadPoolExecutor(1) as pool:
        for part_bytes in part_sizes(size, part_size):
            part, left = hashlib.sha256(), part_bytes
            while left > 0 and (block := file.read(min(16 * _BLOCK, left))):
                # hashlib lets go of the interpreter, so the two run side by side.
                beside = pool.submit(whole.update, block)
                part.update(block)
                beside.result()
                left -= len(block)
                received += len(block)
            parts.append(part.hexdigest())
        if received != size or file.read(1):
            raise FileChanged(f"{path} changed while it was being read. Run the same again.")
    return Digests(whole.hexdigest(), parts)


def _find_open(transport: Transport, sha256: str) -> dict[str, Any] | None:
    """The newest upload of these bytes that broke off, with its parts."""
    found = transport.call("GET", "/v1/uploads", status="open", sha256=sha256, limit=1)["data"]
    return transport.call("GET", f"/v1/uploads/{found[0]['id']}") if found else None


def _create(transport: Transport, path: Path, size: int, digests: Digests) -> dict[str, Any]:
    sizes = part_sizes(size, choose_part_size(size, PART_SIZE))
    parts = [{"bytes": part_bytes, "sha256": sha256} for part_bytes, sha256 in zip(sizes, digests.parts, strict=True)]
    return transport.call("POST", "/v1/uploads", {"filename": path.name, "bytes": size, "sha256": digests.whole, "parts": parts})


def _send_missing(transport: Transport, path: Path, upload: dict[str, Any], advance: Advance) -> None:
    stop = threading.Event()

    def send(part: dict[str, Any]) -> None:
        try:
            transport.put(part["url"], _Slice(path, (part["number"] - 1) * upload["part_size"], part["bytes"], stop), part["headers"])
            advance(part["bytes"])
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
        try:
            sending = [pool.submit(send, part) for part in upload["parts"] if not part["received"]]
            errors = [part.exception() for part in wait(sending, return_when=FIRST_EXCEPTION).done]
        except BaseException:  # Ctrl-C
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown(cancel_futures=True)
    for error in errors:
        if error is None or isinstance(error, _Stopped):
            continue
        if not isinstance(error, ApiError) or not _is_beyond_sending(transport, upload["id"]):
            raise error


def _is_beyond_sending(transport: Transport, upload_id: str) -> bool:
    """Whether parts are refused because the same command, run elsewhere, has sent them all and is completing the upload."""
    status: str = transport.call("GET", f"/v1/uploads/{upload_id}")["status"]
    return status != "open"


def _complete(transport: Transport, upload_id: str) -> None:
    while transport.call("POST", f"/v1/uploads/{upload_id}/complete")["status"] != "completed":
        time.sleep(PAUSE)


def _has_changed(path: Path, before: os.stat_result) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return True
    return (now.st_mtime_ns, now.st_size) != (before.st_mtime_ns, before.st_size)


class _Stopped(Exception):
    """Another part has failed, or the user has had enough."""


class _Slice:
    """A stretch of a file as the body of a request, read anew each time it is sent; never more than a block of it in memory."""

    def __init__(self, path: Path, start: int, length: int, stop: threading.Event) -> None:
        self._path = path
        self._start = start
        self._length = length
        self._stop = stop

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(self._start)
            left = self._length
            while left > 0:
                if self._stop.is_set():
                    raise _Stopped
                block = file.read(min(_BLOCK, left))
                if not block:
                    raise FileChanged(f"{self._path} became shorter while it was being sent. Run the same again.")
                left -= len(block)
                yield block
