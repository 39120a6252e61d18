"""A signature over a set of files in the form of OpenSSF model signing v1.0.

A Sigstore bundle (v0.3) holds a DSSE envelope, that an in-toto statement, and that the digest of every file. The package
`model-signing` verifies what is written here. It is not what signs: it would hash every artifact again in one folder of
their own, and brings two dozen packages for what `cryptography` does in this file.

Formats: https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse,
https://docs.sigstore.dev/about/bundle.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from app.provenance.keys import PublicKey, SigningKey

SIGNATURE = "model.sig"
"""The name that model signing gives the file, which lies beside those that it signs."""
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"

_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"


class NotGenuine(Exception):
    """What was downloaded is not what was signed. The message names the first thing that is wrong."""


def sign_files(key: SigningKey, name: str, digests: Mapping[str, str]) -> bytes:
    """The content of `model.sig`. name: what the files are together. digests: SHA-256 by path, in lower-case hexadecimal."""
    payload = json.dumps(_statement(name, digests)).encode()
    return json.dumps(_bundle(key.public.fingerprint, payload, key.sign(_pae(payload)))).encode()


def verify_bundle(content: bytes, key: PublicKey) -> dict[str, str]:
    """The signed SHA-256 of every file, by path. content: of `model.sig`.

    Raises:
        NotGenuine: it is no such signature, or not one of this key.
    """
    try:
        bundle = json.loads(content)
        hint = bundle["verificationMaterial"]["publicKey"]["hint"]
        envelope = bundle["dsseEnvelope"]
        payload, signature = (base64.b64decode(text, validate=True) for text in (envelope["payload"], envelope["signatures"][0]["sig"]))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise NotGenuine(f"{SIGNATURE} is damaged: it is no signature bundle.") from error
    if hint != key.fingerprint:
        raise NotGenuine(f"{SIGNATURE} was made with another key: {hint}, not {key.fingerprint}.")
    # Whatever else it says would be said by nobody.
    if not key.verifies(_pae(payload), signature) or bundle != _bundle(hint, payload, signature):
        raise NotGenuine(f"{SIGNATURE} is not a valid signature of the key {key.fingerprint}.")
    return _digests(json.loads(payload))


def _statement(name: str, digests: Mapping[str, str]) -> dict[str, Any]:
    files = sorted(digests.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in files)).hexdigest()
    return {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE]},
            "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in files],
        },
    }


def _digests(statement: dict[str, Any]) -> dict[str, str]:
    """SHA-256 by path, of a statement that the key did sign.

    Raises:
        NotGenuine: the key signed something else than a set of files.
    """
    try:
        digests = {resource["name"]: resource["digest"] for resource in statement["predicate"]["resources"]}
        if statement == _statement(statement["subject"][0]["name"], digests):
            return digests
    except (ValueError, TypeError, LookupError):
        pass
    raise NotGenuine(f"{SIGNATURE} signs no list of files.")


def _bundle(fingerprint: str, payload: bytes, signature: bytes) -> dict[str, Any]:
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def _pae(payload: bytes) -> bytes:
    """What DSSE signs: the payload, its type, and the length of both."""
    return f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload
