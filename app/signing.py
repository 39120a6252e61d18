"""What hangs on the server's secret key: each purpose gets a key of its own, so that no use can be turned into another."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet

from app.settings import Settings


class Signer:
    """Keyed digests and encryption. Two processes with the same `secret_key` understand each other."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, settings: Settings) -> Signer:
        return cls(settings.secret_key.get_secret_value().encode())

    def digest(self, purpose: str, message: str) -> bytes:
        """32 bytes that only holders of the secret key can compute."""
        return hmac.digest(self._subkey(purpose), message.encode(), hashlib.sha256)

    def verifies(self, purpose: str, message: str, digest: str) -> bool:
        """Whether the hexadecimal `digest` belongs to `message`, compared in constant time."""
        return hmac.compare_digest(self.digest(purpose, message).hex().encode(), digest.encode())

    def encrypt(self, purpose: str, data: bytes) -> bytes:
        return self._cipher(purpose).encrypt(data)

    def decrypt(self, purpose: str, data: bytes) -> bytes:
        return self._cipher(purpose).decrypt(data)

    def _subkey(self, purpose: str) -> bytes:
        return hmac.digest(self._secret, f"lustral:{purpose}".encode(), hashlib.sha256)

    def _cipher(self, purpose: str) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self._subkey(purpose)))
