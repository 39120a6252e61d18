"""The digest of a whole file as an HTTP header (RFC 9530), the same beside all of it and beside a part."""

from __future__ import annotations

import base64


def repr_digest(sha256: str) -> str:
    """The value of `Repr-Digest`. sha256: lower-case hexadecimal."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
