"""Does the object store do all that the service asks of it: write, read, delete, multipart uploads, links for clients?"""

from __future__ import annotations

import secrets
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from app.doctor import clock
from app.doctor.finding import Finding, failed, ok, warning
from app.settings import Settings
from app.storage import ObjectStore, open_store

CHECK = "storage"
_CONTENT = b"lustral doctor"
_ADVICE = {
    "NoSuchBucket": "Make the bucket: lustral operate migrate",
    "404": "Make the bucket: lustral operate migrate",
    "RequestTimeTooSkewed": "Let this machine and the store keep time by NTP.",
}
_KEYS = (
    "Are LUSTRAL_S3_ACCESS_KEY_ID and LUSTRAL_S3_SECRET_ACCESS_KEY right, and may that user read, write, list and delete in the bucket, "
    "multipart uploads included?"
)


def check_storage(settings: Settings) -> Iterator[Finding]:
    key = f"probes/doctor-{secrets.token_hex(8)}"
    try:
        _reach(settings.storage_url)
        store = open_store(settings)
        yield _objects(store, key)
        yield _multipart(store, key)
        yield from _links(store, key)
        store.delete(key)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        yield failed(CHECK, f"refuses {error.operation_name}: {code}", _ADVICE.get(code, _KEYS))
    except (BotoCoreError, OSError, ValueError) as error:
        advice = "Is it up, is there room on its disk, and does LUSTRAL_STORAGE_URL name it as this machine reaches it?"
        yield failed(CHECK, f"cannot be used: {error}", advice)


def _reach(storage_url: str) -> None:
    """Knock first: boto3 would try a closed door for half a minute."""
    [endpoint] = parse_qs(urlsplit(storage_url).query).get("endpoint", [""])
    if endpoint:
        address = urlsplit(endpoint)
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=5).close()


def _objects(store: ObjectStore, key: str) -> Finding:
    store.put_bytes(key, _CONTENT)
    if b"".join(store.open_range(key, 2, 9)) != _CONTENT[2:9]:
        return failed(CHECK, "answers a request for a part of an object with other bytes", "Use a store that honours Range requests.")
    listed = key in store.keys("probes/")
    store.delete(key)
    if not listed or key in store.keys("probes/"):
        return failed(CHECK, "its lists are late: they show what is gone, or miss what is there", "Use a store with consistent lists.")
    return ok(CHECK, "writes, reads, lists and deletes")


def _multipart(store: ObjectStore, key: str) -> Finding:
    multipart_id = store.start_multipart(key)
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(_CONTENT)
            file.flush()
            part = store.put_part(key, multipart_id, 1, _copy(Path(file.name)))
        store.complete_multipart(key, multipart_id, [part])
    except BaseException:
        store.abort_multipart(key, multipart_id)
        raise
    if store.size(key) != len(_CONTENT):
        return failed(CHECK, "made an object of another size out of its parts", "Use a store that supports multipart uploads.")
    return ok(CHECK, "takes uploads in parts")


def _copy(path: Path) -> Path:
    """`put_part` may move the file away."""
    copy = path.with_suffix(".part")
    copy.write_bytes(path.read_bytes())
    return copy


def _links(store: ObjectStore, key: str) -> Iterator[Finding]:
    link = store.signed_url(key, "doctor.txt", "text/plain", 60)
    if link is None:
        yield ok(CHECK, "no links: the API streams what is stored")
        return
    where = f"{urlsplit(link).scheme}://{urlsplit(link).netloc}"
    try:
        answer = httpx.get(link, timeout=10, trust_env=False)
    except httpx.HTTPError as error:
        # Inside a container the name that clients use may well lead nowhere.
        yield warning(CHECK, f"a link to {where} could not be followed from here: {error}", "Try it from where your clients are.")
        return
    if answer.status_code == 200 and answer.content == _CONTENT:
        yield ok(CHECK, f"links to {where} work")
    else:
        yield failed(
            CHECK,
            f"a link to {where} was answered with {answer.status_code}",
            "LUSTRAL_S3_PUBLIC_ENDPOINT must lead to the same store, and a proxy before it must pass the Host header on unchanged.",
        )
    if date := answer.headers.get("date"):
        yield clock.compare("the object store", parsedate_to_datetime(date) - datetime.now(UTC))
