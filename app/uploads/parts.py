"""The parts of an upload: as their sender states them, and the signed links to PUT them to."""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.errors import Forbidden, InvalidInput
from app.runtime import Runtime
from app.storage import PartLink
from app.uploads.schemas import StatedPart
from app.uploads.sizes import SMALLEST_PART, part_sizes
from app.uploads.tables import UploadRow

PURPOSE = "upload-part"
_DIGEST_LENGTH = 64


def check_stated(parts: Sequence[StatedPart], total: int) -> int:
    """The size of every part but the last, as stated.

    Raises:
        InvalidInput: these are not the parts of a file of `total` bytes.
    """
    sizes = [part.bytes for part in parts]
    if sum(sizes) != total:
        raise InvalidInput.at("/parts", f"the parts have {sum(sizes)} bytes together; the file has {total}")
    part_size = sizes[0] if sizes else SMALLEST_PART
    for index, size in enumerate(sizes):
        last = index == len(sizes) - 1
        if size > part_size or (size < part_size and not last):
            raise InvalidInput.at(f"/parts/{index}/bytes", f"all parts but a smaller last one have {part_size} bytes, not {size}")
    if len(sizes) > 1 and part_size < SMALLEST_PART:
        raise InvalidInput.at("/parts/0/bytes", f"only the last part may have fewer than {SMALLEST_PART} bytes")
    return part_size


def join_digests(parts: Sequence[StatedPart]) -> str:
    """The stated digests as `UploadRow.part_digests` keeps them."""
    return "".join(part.sha256 for part in parts)


def digest_of(upload: UploadRow, number: int) -> str | None:
    """The SHA-256 stated for a part, or None where its sender stated none."""
    if upload.part_digests is None:
        return None
    return upload.part_digests[(number - 1) * _DIGEST_LENGTH : number * _DIGEST_LENGTH]


def part_link(runtime: Runtime, upload: UploadRow, number: int) -> PartLink:
    """Where to PUT a part: in the object store itself, or here where that has no addresses of its own."""
    seconds = max(1, int(upload.expires_at.timestamp() - time.time()))
    size = part_sizes(upload.bytes, upload.part_size)[number - 1]
    direct = runtime.store.part_link(upload.key, upload.multipart_id, number, seconds, bytes=size, sha256=digest_of(upload, number))
    if direct is not None:
        return direct
    # Size and digest need no place in a link to ourselves: the upload that it names has them.
    expires = int(upload.expires_at.timestamp())
    signature = runtime.signer.digest(PURPOSE, _message(upload.id, number, expires)).hex()
    return PartLink(f"{runtime.settings.public_url}/v1/uploads/{upload.id}/parts/{number}?expires={expires}&signature={signature}")


def check_part_link(runtime: Runtime, upload_id: str, number: int, expires: int, signature: str) -> None:
    """Whether such a link was made by us and still holds.

    Raises:
        Forbidden: it was not, or does not.
    """
    if not runtime.signer.verifies(PURPOSE, _message(upload_id, number, expires), signature):
        raise Forbidden("This link was not made by this server. GET the upload for links to the parts that are missing.")
    if expires < time.time():
        raise Forbidden("This link has expired. Create a new upload.")


def _message(upload_id: str, number: int, expires: int) -> str:
    return f"{upload_id} {number} {expires}"
