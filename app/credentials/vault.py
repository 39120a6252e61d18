"""Encrypts what tenants entrust to us. Whoever has the database without the operator's keys has nothing of it."""

from __future__ import annotations

import json
from typing import Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.settings import Settings


class Sealed(Exception):
    """None of the operator's keys opens it."""


class Vault:
    """The first key encrypts; all of them decrypt, so that a new key can be put in front while the old one still opens what it closed."""

    def __init__(self, keys: list[str]) -> None:
        self._cipher = MultiFernet([Fernet(key) for key in keys])

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The vault of these settings; None where the operator set no key, and so nothing can be entrusted."""
        return cls(settings.credential_key_list) if settings.credential_key_list else None

    def seal(self, secrets: dict[str, str]) -> bytes:
        return self._cipher.encrypt(json.dumps(secrets).encode())

    def open(self, sealed: bytes) -> dict[str, str]:
        """What was sealed.

        Raises:
            Sealed: it was closed with a key that is not listed any more.
        """
        try:
            secrets: dict[str, str] = json.loads(self._cipher.decrypt(sealed))
        except InvalidToken as error:
            raise Sealed("no key of LUSTRAL_CREDENTIAL_KEYS opens these credentials; set them again") from error
        return secrets

    def reseal(self, sealed: bytes) -> bytes:
        """The same secrets, closed with the first key.

        Raises:
            Sealed: none of the keys opens it.
        """
        return self.seal(self.open(sealed))
