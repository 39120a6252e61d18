"""Where bytes live: an object store behind one small protocol, as a folder or as S3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from app.settings import Settings

CHUNK = 1024 * 1024


class ObjectNotFound(Exception):
    """No object has this key, or the multipart upload is unknown (finished, aborted, or never begun)."""


class PartMissing(Exception):
    """A multipart upload was completed without all of its parts."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a multipart upload that has arrived whole. `number` counts from 1; `sha256` is what its link was signed for."""

    number: int
    bytes: int
    etag: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PartLink:
    """Where to PUT a part, and the headers that have to come with it."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Multipart:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    multipart_id: str
    started_at: datetime


class ObjectStore(Protocol):
    """Keys are relative paths such as `tenants/ten_1/uploads/upl_2`. An object appears whole or not at all."""

    def put_file(self, key: str, path: Path) -> None: ...

    def put_bytes(self, key: str, data: bytes) -> None: ...

    def get_file(self, key: str, path: Path) -> None:
        """Copy the object to the local file `path`, which appears only when complete.

        Raises:
            ObjectNotFound: there is none.
        """

    def open_range(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to but not including `stop` (null: the end), in chunks of at most 1 MiB.

        Raises:
            ObjectNotFound: there is none. Raised by this call, before the first chunk is asked for.
        """

    def size(self, key: str) -> int:
        """Bytes of the object.

        Raises:
            ObjectNotFound: there is none.
        """

    def delete(self, key: str) -> None:
        """Delete the object; quietly does nothing where there is none."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, in order."""

    def start_multipart(self, key: str, *, digests: bool = False) -> str:
        """Begin a multipart upload and return its id. digests: the SHA-256 of every part will be named, in its link and on completion."""

    def part_link(
        self, key: str, multipart_id: str, number: int, expires_seconds: int, *, bytes: int, sha256: str | None
    ) -> PartLink | None:
        """A link to PUT one part to, straight into the store; null where the API has to take the part itself (`put_part`).

        The store refuses a part of another size, and where `sha256` (hexadecimal) is given, other bytes too.
        """

    def put_part(self, key: str, multipart_id: str, number: int, path: Path) -> Part:
        """Take one part from the local file `path`, which may be moved away. A part sent twice counts once: the later one, where
        the store can tell (S3 counts seconds).

        Raises:
            ObjectNotFound: the multipart upload is over.
        """

    def list_parts(self, key: str, multipart_id: str) -> list[Part]:
        """The parts that have arrived, by number.

        Raises:
            ObjectNotFound: the multipart upload is over.
        """

    def complete_multipart(self, key: str, multipart_id: str, parts: Iterable[Part]) -> None:
        """Make the object out of these parts, in order.

        Raises:
            ObjectNotFound: the multipart upload is over.
            PartMissing: a part named here has not arrived.
        """

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Drop the multipart upload and its parts; quietly does nothing where there is none."""

    def open_multiparts(self) -> Iterator[Multipart]:
        """All multipart uploads that are neither completed nor aborted, in no order."""

    def drop_leftovers(self) -> int:
        """Delete what killed processes left that no key and no multipart upload stands for; returns how many files or folders."""

    def signed_url(self, key: str, filename: str, media_type: str, expires_seconds: int) -> str | None:
        """A short-lived link to download from; null where the API has to stream the object itself."""

    def scratch(self) -> Path:
        """A local folder for parts on their way in; on the same file system as the store where that saves a copy."""

    def probe(self) -> None:
        """Write, read back and delete a small object, as a readiness check. Raises whatever went wrong."""


def open_store(settings: Settings) -> ObjectStore:
    """The store that `settings.storage_url` names.

    Raises:
        ValueError: the address is of neither kind.
    """
    url = urlsplit(settings.storage_url)
    if url.scheme == "file" and not url.netloc:
        from app.storage_folder import FolderStore

        return FolderStore(Path(unquote(url.path)))
    if url.scheme == "s3" and url.netloc:
        # boto3 takes a third of a second to import, and the embedded profile never needs it.
        from app.storage_s3 import S3Store

        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        return S3Store(
            bucket=url.netloc,
            endpoint=query.get("endpoint"),
            public_endpoint=settings.s3_public_endpoint,
            region=query.get("region", "us-east-1"),
            access_key_id=settings.s3_access_key_id.get_secret_value() if settings.s3_access_key_id else None,
            secret_access_key=settings.s3_secret_access_key.get_secret_value() if settings.s3_secret_access_key else None,
        )
    raise ValueError(f"storage_url is {settings.storage_url!r}; it must look like file:///folder or s3://bucket?endpoint=https://host")
