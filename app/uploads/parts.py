"""Which bytes a part has, and the signed link to PUT it to where the API takes parts itself."""

from __future__ import annotations

import time

from app.errors import Forbidden
from app.runtime import Runtime
from app.settings import MIB
from app.uploads.tables import UploadRow

PURPOSE = "upload-part"
MOST_PARTS = 1000


def choose_part_size(total: int, smallest: int) -> int:
    """Bytes of every part but the last: at least `smallest`, and so large that there are at most 1,000 parts."""
    needed = -(-total // MOST_PARTS)
    return max(smallest, -(-needed // MIB) * MIB)


def part_sizes(total: int, part_size: int) -> list[int]:
    whole, rest = divmod(total, part_size)
    return [part_size] * whole + ([rest] if rest else [])


def part_link(runtime: Runtime, upload: UploadRow, number: int) -> str:
    """Where to PUT a part: in the object store itself, or here where that has no addresses of its own."""
    seconds = max(1, int(upload.expires_at.timestamp() - time.time()))
    direct = runtime.store.part_url(upload.key, upload.multipart_id, number, seconds)
    if direct is not None:
        return direct
    expires = int(upload.expires_at.timestamp())
    signature = runtime.signer.digest(PURPOSE, _message(upload.id, number, expires)).hex()
    return f"{runtime.settings.public_url}/v1/uploads/{upload.id}/parts/{number}?expires={expires}&signature={signature}"


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
