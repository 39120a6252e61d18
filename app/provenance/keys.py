"""The key that signs what jobs hand out."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from app.settings import Settings
from app.signing import Signer

# The curves of OpenSSF model signing, each with the hash that goes with it.
_HASHES: dict[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class PublicKey:
    """What a client checks signatures with."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        if key.curve.name not in _HASHES:
            raise ValueError(f"the curve {key.curve.name} is not one of {', '.join(_HASHES)}")
        self._key = key

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """The key of a PEM text.

        Raises:
            ValueError: it is no public key on a curve that model signing knows.
        """
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError("it holds no public key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("it is no elliptic curve key")
        return cls(key)

    @property
    def pem(self) -> bytes:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the PEM text, in hexadecimal: the name that signatures call the key by."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def algorithm(self) -> str:
        return f"ecdsa-{self._key.curve.name}-{_HASHES[self._key.curve.name].name}"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, message, ec.ECDSA(_HASHES[self._key.curve.name]))
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """The service's own key. Every process with the same settings has the same one."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def of(cls, settings: Settings) -> SigningKey:
        """The key in `signing_key_file`, or one derived from the secret key.

        Raises:
            ValueError: the file holds no private key on a curve that model signing knows.
            OSError: it cannot be read.
        """
        if settings.signing_key_file is not None:
            return cls.from_file(settings.signing_key_file)
        signer = Signer.of(settings)
        # Twice the bits of the order, so that no scalar is likelier than another.
        seed = signer.digest("signing-key", "1") + signer.digest("signing-key", "2")
        return cls(ec.derive_private_key(1 + int.from_bytes(seed, "big") % (_P256_ORDER - 1), ec.SECP256R1()))

    @classmethod
    def from_file(cls, path: Path) -> SigningKey:
        """Raises as `of` does."""
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"{path} holds no private key in PEM without a password") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path} holds no elliptic curve key; `openssl ecparam -name prime256v1 -genkey -noout` makes one")
        return cls(key)

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def pem(self) -> bytes:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(_HASHES[self._key.curve.name]))
