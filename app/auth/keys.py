"""The form of an API key: `lus_`, 40 random characters, and a checksum of six."""

from __future__ import annotations

import secrets
import string
import zlib

PREFIX = "lus_"
RANDOM = 40  # 238 bits
CHECKSUM = 6
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def new_key() -> str:
    body = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM))
    return PREFIX + body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether this was ever one of our keys. Lets a typo be told without asking the database, and secret scanners recognise a leak."""
    body = key[len(PREFIX) : -CHECKSUM]
    shaped = key.startswith(PREFIX) and len(key) == len(PREFIX) + RANDOM + CHECKSUM
    return shaped and key.isascii() and key[-CHECKSUM:] == _checksum(body)


def hint_of(key: str) -> str:
    """Enough to recognise a key by, too little to guess it."""
    return key[: len(PREFIX) + 4] + "…"


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
