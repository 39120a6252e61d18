"""The signing key as clients see it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.provenance.keys import PublicKey
from app.schemas import Resource


class SigningKeyResource(Resource):
    object: Literal["signing_key"] = "signing_key"
    fingerprint: str = Field(description="SHA-256 of `public_key`; a `model.sig` names its key so.")
    algorithm: str = Field(examples=["ecdsa-secp256r1-sha256"])
    public_key: str = Field(description="PEM.", examples=["-----BEGIN PUBLIC KEY-----\n…"])

    @classmethod
    def of(cls, key: PublicKey) -> SigningKeyResource:
        return cls(fingerprint=key.fingerprint, algorithm=key.algorithm, public_key=key.pem.decode())
