"""The key that signs is the operator's, or follows from the secret key; clients can ask for its public half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from app.provenance.keys import PublicKey, SigningKey
from app.settings import Settings
from tests.worlds.api import Tenant, expect, expect_problem

SECRET = "a secret that only this test run knows"


def _settings(**fields: Any) -> Settings:
    return Settings.model_validate(
        {"database_url": "sqlite://", "broker_url": "memory://", "storage_url": "file:///x", "secret_key": SECRET, **fields}
    )


class TestSigningKey:
    @pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
    def test_is_the_one_that_the_operator_named(self, tmp_path: Path, curve: ec.EllipticCurve) -> None:
        private = ec.generate_private_key(curve)
        path = tmp_path / "key.pem"
        path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        key = SigningKey.of(_settings(signing_key_file=path))
        assert key.public.pem == private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert PublicKey.from_pem(key.public.pem).verifies(b"message", key.sign(b"message"))
        assert not key.public.verifies(b"massage", key.sign(b"message"))

    def test_follows_from_the_secret_key_where_none_is_named(self) -> None:
        one, again, other = (SigningKey.of(_settings(secret_key=secret)).public.pem for secret in (SECRET, SECRET, SECRET + "!"))
        assert one == again
        assert one != other

    def test_of_another_kind_is_refused_at_start(self, tmp_path: Path) -> None:
        path = tmp_path / "key.pem"
        path.write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(ValueError, match="no elliptic curve key"):
            SigningKey.of(_settings(signing_key_file=path))
        path.write_bytes(ec.generate_private_key(ec.SECP256K1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(ValueError, match="secp256k1 is not one of"):
            SigningKey.of(_settings(signing_key_file=path))
        path.write_text("no key")
        with pytest.raises(ValueError, match="no private key in PEM"):
            SigningKey.of(_settings(signing_key_file=path))


class TestEndpoint:
    def test_hands_out_the_public_half_only(self, tenant: Tenant) -> None:
        answer = tenant.get("/v1/signing-key")
        shown = expect(answer, 200)
        key = PublicKey.from_pem(shown["public_key"].encode())
        assert (shown["object"], shown["fingerprint"], shown["algorithm"]) == ("signing_key", key.fingerprint, "ecdsa-secp256r1-sha256")
        assert key.fingerprint == tenant.server.runtime.signing_key.public.fingerprint
        assert "PRIVATE" not in answer.text

    def test_asks_for_an_api_key(self, tenant: Tenant) -> None:
        expect_problem(tenant.get("/v1/signing-key", headers={"Authorization": ""}), 401)
